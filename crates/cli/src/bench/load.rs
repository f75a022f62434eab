//! When requests are sent.
//!
//! Closed loop: a number of clients, each sends its next request when its last is answered. Open loop: requests are due
//! at random times (a Poisson process) that no answer delays; when a bound on concurrency holds one back, its
//! latency still counts from when it was due.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::prompt::stream;
use super::send::{Record, Sender};
use crate::args::BenchArgs;

/// Numbers of warm-up requests begin here, so that they share no prompt with measured ones.
const WARM_UP_IDX: u64 = 1 << 40;
/// Key of the random numbers that space the arrivals.
const ARRIVALS_IDX: u64 = (1 << 41) + 1;
const DEFAULT_CONCURRENCY: usize = 8;
const DEFAULT_NUM_REQUESTS: usize = 100;

/// A pattern of requests with an end.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pattern: Pattern,
    first_idx: u64,
    /// At most this many requests.
    num_requests: usize,
    /// No request starts after this.
    duration: Duration,
    seed: u64,
    warmup: usize,
}

#[derive(Debug, Clone, Copy)]
enum Pattern {
    Closed { concurrency: usize },
    Open { rate: f64, bound: usize },
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct Measured {
    /// In the order of their numbers.
    pub(super) records: Vec<Record>,
    /// From the start to the last answer, in seconds.
    pub(super) seconds: f64,
    /// Ctrl-C ended it; requests in flight then are left out.
    pub(super) interrupted: bool,
}

impl Load {
    pub(super) fn new(args: &BenchArgs, seed: u64) -> Self {
        let pattern = match args.rate {
            Some(rate) => Pattern::Open { rate, bound: args.concurrency.unwrap_or(Semaphore::MAX_PERMITS) },
            None => Pattern::Closed { concurrency: args.concurrency.unwrap_or(DEFAULT_CONCURRENCY) },
        };
        let default = if args.duration.is_some() { usize::MAX } else { DEFAULT_NUM_REQUESTS };
        Self {
            pattern,
            first_idx: 0,
            num_requests: args.num_requests.unwrap_or(default),
            duration: args.duration.unwrap_or(Duration::MAX),
            seed,
            warmup: args.warmup,
        }
    }

    /// The same clients, with other prompts, not measured.
    pub(super) fn warm_up(&self) -> Self {
        let concurrency = match self.pattern {
            Pattern::Closed { concurrency } => concurrency,
            Pattern::Open { bound, .. } => bound.min(DEFAULT_CONCURRENCY),
        };
        Self {
            pattern: Pattern::Closed { concurrency },
            first_idx: WARM_UP_IDX,
            num_requests: self.warmup,
            duration: Duration::MAX,
            ..self.clone()
        }
    }

    pub(super) fn num_requests(&self) -> usize {
        self.num_requests
    }

    /// The number of requests, if it is known beforehand.
    pub(super) fn bound(&self) -> Option<usize> {
        (self.num_requests != usize::MAX).then_some(self.num_requests)
    }

    /// Send everything and wait for the answers, or for Ctrl-C.
    pub(super) async fn run(&self, sender: &Arc<Sender>, bar: &ProgressBar) -> Measured {
        let run = Run {
            sender: Arc::clone(sender),
            start: Instant::now(),
            bar: bar.clone(),
            records: Arc::default(),
        };
        let work = async {
            match self.pattern {
                Pattern::Closed { concurrency } => self.closed(concurrency, &run).await,
                Pattern::Open { rate, bound } => self.open(rate, bound, &run).await,
            }
        };
        let interrupted = tokio::select! {
            () = work => false,
            _ = tokio::signal::ctrl_c() => true,
        };
        bar.finish_and_clear();
        let mut records = std::mem::take(&mut *lock(&run.records));
        records.sort_by_key(|record: &Record| record.idx);
        Measured { records, seconds: run.start.elapsed().as_secs_f64(), interrupted }
    }

    async fn closed(&self, concurrency: usize, run: &Run) {
        let next = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..concurrency.min(self.num_requests) {
            let (load, run, next) = (self.clone(), run.clone(), Arc::clone(&next));
            clients.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= load.num_requests as u64 || run.start.elapsed() >= load.duration {
                        return;
                    }
                    run.request(load.first_idx + number, Instant::now()).await;
                }
            });
        }
        while clients.join_next().await.is_some() {}
    }

    async fn open(&self, rate: f64, bound: usize, run: &Run) {
        let slots = Arc::new(Semaphore::new(bound));
        let mut requests = JoinSet::new();
        for (number, offset) in Arrivals::new(self.seed, rate).take(self.num_requests).enumerate() {
            if offset >= self.duration {
                break;
            }
            let due = run.start + offset;
            tokio::time::sleep_until(due.into()).await;
            let (run, slots, idx) = (run.clone(), Arc::clone(&slots), self.first_idx + number as u64);
            requests.spawn(async move {
                // Waiting here counts: the latency of a request begins when it was due.
                let _slot = slots.acquire().await;
                run.request(idx, due).await;
            });
            while requests.try_join_next().is_some() {}
        }
        while requests.join_next().await.is_some() {}
    }
}

/// What all requests of a run share.
#[derive(Clone)]
struct Run {
    sender: Arc<Sender>,
    start: Instant,
    bar: ProgressBar,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Run {
    async fn request(&self, idx: u64, due: Instant) {
        let record = self.sender.send(idx, self.start, due).await;
        lock(&self.records).push(record);
        self.bar.inc(1);
    }
}

/// A panic while a record is pushed leaves the list as it was.
fn lock(records: &Mutex<Vec<Record>>) -> MutexGuard<'_, Vec<Record>> {
    records.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Offsets of a Poisson process: the gaps are exponentially distributed with mean 1 / rate.
struct Arrivals {
    rng: StdRng,
    rate: f64,
    seconds: f64,
}

impl Arrivals {
    fn new(seed: u64, rate: f64) -> Self {
        Self { rng: stream(seed, ARRIVALS_IDX), rate, seconds: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let uniform: f64 = self.rng.random();
        self.seconds += -(1.0 - uniform).ln() / self.rate;
        Duration::try_from_secs_f64(self.seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_have_the_rate_and_spread_of_a_poisson_process() {
        let times: Vec<f64> = Arrivals::new(3, 50.0).take(20_000).map(|time| time.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.02).abs() < 0.0005, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 0.001, "{}", variance.sqrt());
    }

    #[test]
    fn arrivals_depend_on_the_seed_alone() {
        let first = |seed| Arrivals::new(seed, 1.0).take(5).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}

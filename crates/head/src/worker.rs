//! A worker as the head knows it, and its replicas: one for each model it serves, the unit of routing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::uri::Authority;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use vlinders_api::{ModelCondition, ModelState, ModelTotals, WorkerState};

use crate::breaker::{Breaker, Circuit};
use crate::choose::Candidate;
use crate::discovery::{Stage, Target};
use crate::prefix_index::Place;

/// A process that serves models.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) authority: Authority,
    target: Mutex<Target>,
    known: Mutex<Known>,
    life: Mutex<Life>,
    breaker: Mutex<Breaker>,
    /// The breaker is closed; spares most decisions its lock.
    closed: AtomicBool,
    /// It has said, in answer to a request, that it takes no more; until the next report.
    refuses: AtomicBool,
    /// Ask it at once.
    pub(crate) nudge: Notify,
}

/// What it last said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// `None` before its first answer.
    pub(crate) state: Option<Arc<WorkerState>>,
    /// Why it does not answer; `None` while it does.
    pub(crate) silence: Option<String>,
}

/// How long ago it spoke, and what ends when that is too long.
#[derive(Debug)]
struct Life {
    heard: Instant,
    lost: CancellationToken,
}

/// A model at a worker.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) worker: Arc<Worker>,
    pub(crate) place: Place,
    /// By what the worker and the platform say.
    ready: AtomicBool,
    /// Requests of this head that are not answered yet.
    in_flight: AtomicU32,
    /// The same when the last report came.
    reported_in_flight: AtomicU32,
    running: AtomicU32,
    waiting: AtomicU32,
    kv_usage: AtomicU32,
    kv_tokens: AtomicUsize,
    pending_bytes: AtomicU64,
    progress: Mutex<Progress>,
    totals: Mutex<Totals>,
    /// When it became ready, or ceased to be.
    since: Mutex<SystemTime>,
}

/// What it has counted, over all its processes.
#[derive(Debug, Default)]
struct Totals {
    /// Of processes that are gone.
    past: ModelTotals,
    /// Of this one.
    present: ModelTotals,
}

/// When its engine last completed a step.
#[derive(Debug)]
struct Progress {
    instance: String,
    steps: u64,
    since: Instant,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// It can be asked now, or can not be any more.
    pub(crate) readiness: bool,
    /// It is another process than before: its cache is empty.
    pub(crate) reborn: bool,
}

/// A request that a replica has; it counts until dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) replica: Arc<Replica>,
    /// The worker is lost.
    pub(crate) lost: CancellationToken,
    pending_bytes: u64,
}

// === impl Worker ===

impl Worker {
    pub(crate) fn new(authority: Authority, target: Target) -> Self {
        Self {
            authority,
            target: Mutex::new(target),
            known: Mutex::default(),
            life: Mutex::new(Life { heard: Instant::now(), lost: CancellationToken::new() }),
            breaker: Mutex::default(),
            closed: AtomicBool::new(true),
            refuses: AtomicBool::new(false),
            nudge: Notify::new(),
        }
    }

    pub(crate) fn target(&self) -> Target {
        lock(&self.target).clone()
    }

    pub(crate) fn set_target(&self, target: Target) {
        *lock(&self.target) = target;
    }

    pub(crate) fn known(&self) -> Known {
        lock(&self.known).clone()
    }

    /// It says nothing: give up what it has if that is longer than `lost_timeout`.
    pub(crate) fn is_silent(&self, now: Instant, lost_timeout: Duration) {
        let life = lock(&self.life);
        if now.duration_since(life.heard) >= lost_timeout && !life.lost.is_cancelled() {
            tracing::warn!(worker = %self.authority, "the worker is lost, and what it had is given up");
            life.lost.cancel();
        }
    }

    /// Keep what it said, or that it says nothing.
    pub(crate) fn tell(&self, heard: Result<Arc<WorkerState>, String>) {
        if heard.is_ok() {
            let mut life = lock(&self.life);
            life.heard = Instant::now();
            if life.lost.is_cancelled() {
                life.lost = CancellationToken::new();
            }
        }
        let mut known = lock(&self.known);
        match heard {
            Ok(state) => *known = Known { state: Some(state), silence: None },
            Err(why) => known.silence = Some(why),
        }
        self.refuses.store(false, Ordering::Relaxed);
    }

    /// It takes no more requests, as far as is known until its next report, which is asked for at once.
    pub(crate) fn refuses(&self) {
        self.refuses.store(true, Ordering::Relaxed);
        self.nudge.notify_one();
    }

    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        if self.closed.load(Ordering::Relaxed) { Circuit::Closed } else { lock(&self.breaker).circuit(now) }
    }

    /// A request is about to be sent to it.
    pub(crate) fn sending(&self, now: Instant) {
        if !self.closed.load(Ordering::Relaxed) {
            lock(&self.breaker).sent(now);
        }
    }

    /// It has answered as it should.
    pub(crate) fn succeeded(&self) {
        let mut breaker = lock(&self.breaker);
        if breaker.succeeded() {
            tracing::info!(worker = %self.authority, "the worker answers again");
        }
        self.closed.store(true, Ordering::Relaxed);
    }

    /// It has failed a request.
    pub(crate) fn failed(&self, now: Instant) {
        let mut breaker = lock(&self.breaker);
        if breaker.failed(now) {
            self.closed.store(false, Ordering::Relaxed);
            tracing::warn!(worker = %self.authority, "the worker keeps failing and gets no requests for a while");
        }
        drop(breaker);
        self.nudge.notify_one();
    }

    /// It has failed a request, and is not asked again before it has said how it is.
    pub(crate) fn broke_off(&self, now: Instant) {
        self.failed(now);
        self.refuses();
    }

    fn takes_requests(&self, now: Instant) -> bool {
        !self.refuses.load(Ordering::Relaxed) && self.circuit(now) != Circuit::Open
    }
}

// === impl Known ===

impl Known {
    /// It has not been asked yet.
    pub(crate) fn is_new(&self) -> bool {
        self.state.is_none() && self.silence.is_none()
    }
}

// === impl Replica ===

impl Replica {
    pub(crate) fn new(worker: Arc<Worker>, place: Place) -> Self {
        Self {
            worker,
            place,
            ready: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            reported_in_flight: AtomicU32::new(0),
            running: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            kv_usage: AtomicU32::new(0),
            kv_tokens: AtomicUsize::new(0),
            pending_bytes: AtomicU64::new(0),
            progress: Mutex::new(Progress { instance: String::new(), steps: 0, since: Instant::now() }),
            totals: Mutex::default(),
            since: Mutex::new(SystemTime::now()),
        }
    }

    /// Take over what the worker says of this model.
    pub(crate) fn report(
        &self,
        worker: &WorkerState,
        model: &ModelState,
        now: Instant,
        stall_timeout: Duration,
    ) -> Change {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.running.store(count(model.running), Ordering::Relaxed);
        self.waiting.store(count(model.waiting), Ordering::Relaxed);
        self.kv_usage.store((model.kv_usage.clamp(0.0, 1.0) * 1000.0) as u32, Ordering::Relaxed);
        self.kv_tokens.store(model.kv_tokens, Ordering::Relaxed);
        self.reported_in_flight.store(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut progress = lock(&self.progress);
        let reborn = progress.instance != worker.instance;
        if reborn || !model.has_work || progress.steps != model.steps {
            *progress = Progress { instance: worker.instance.clone(), steps: model.steps, since: now };
        }
        let stalled = now.duration_since(progress.since) > stall_timeout;
        drop(progress);
        let mut totals = lock(&self.totals);
        if reborn {
            let ended = std::mem::take(&mut totals.present);
            totals.past.add(&ended);
        }
        totals.present = model.totals.clone();
        drop(totals);
        let platform = lock(&self.worker.target).stage == Stage::Ready;
        let ready = platform && worker.open && model.condition == ModelCondition::Ready && !stalled;
        Change { readiness: self.set_ready(ready), reborn }
    }

    /// Whether that is a change.
    pub(crate) fn set_ready(&self, ready: bool) -> bool {
        let changed = self.ready.swap(ready, Ordering::Relaxed) != ready;
        if changed {
            *lock(&self.since) = SystemTime::now();
        }
        changed
    }

    /// When it became ready, or ceased to be.
    pub(crate) fn since(&self) -> SystemTime {
        *lock(&self.since)
    }

    /// What it has counted, over all its processes.
    pub(crate) fn totals(&self) -> ModelTotals {
        let totals = lock(&self.totals);
        let mut sum = totals.past.clone();
        sum.add(&totals.present);
        sum
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// A request may be sent to it now.
    pub(crate) fn is_routable(&self, now: Instant) -> bool {
        self.is_ready() && self.worker.takes_requests(now)
    }

    /// It as a choice, for a prompt of which it knows `matched` blocks.
    pub(crate) fn candidate(&self, matched: u32) -> Candidate {
        let own = self.in_flight.load(Ordering::Relaxed);
        let since = own.saturating_sub(self.reported_in_flight.load(Ordering::Relaxed));
        let waiting = self.waiting.load(Ordering::Relaxed);
        let reported = self.running.load(Ordering::Relaxed).saturating_add(waiting);
        Candidate {
            matched,
            answers: reported.saturating_add(since),
            waiting,
            pending_bytes: self.pending_bytes.load(Ordering::Relaxed),
            kv_usage: self.kv_usage.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Tokens its cache has room for.
    pub(crate) fn kv_tokens(&self) -> usize {
        self.kv_tokens.load(Ordering::Relaxed)
    }

    /// Count a request with a prompt of this many bytes.
    pub(crate) fn begin(self: &Arc<Self>, prompt_bytes: usize) -> InFlight {
        let pending_bytes = prompt_bytes as u64;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.pending_bytes.fetch_add(pending_bytes, Ordering::Relaxed);
        InFlight { replica: Arc::clone(self), lost: lock(&self.worker.life).lost.clone(), pending_bytes }
    }
}

// === impl InFlight ===

impl InFlight {
    /// The first byte of the answer is there: its prompt is computed.
    pub(crate) fn first_byte(&mut self) {
        let pending = std::mem::take(&mut self.pending_bytes);
        self.replica.pending_bytes.fetch_sub(pending, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.first_byte();
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A lock whose holder panicked still guards whole values here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What it costs to start and to end a parallel region that does nothing.
//!
//! `cargo bench -p vlinders-kernels --bench pool -- [--threads N] [--rounds 20000]` prints microseconds, median and
//! least. `empty`: as many chunks as threads, which do nothing; who comes late misses them. `all meet`: every
//! chunk waits until all are running, so that all threads have to take part: the cost of a barrier. Both between steps,
//! where workers soon sleep, and inside of one, where they wait awake.

#![allow(missing_docs, reason = "a program")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vlinders_kernels::{begin_step, num_threads, parallel_for, set_num_threads};

/// Time between two regions, during which the caller computes.
const GAPS_US: [u64; 5] = [0, 20, 50, 200, 1_000];

fn main() -> ExitCode {
    let mut rounds = 20_000;
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(option) = words.next() {
        match (option.as_str(), words.next().and_then(|value| value.parse().ok())) {
            ("--threads", Some(threads)) => set_num_threads(threads),
            ("--rounds", Some(number)) => rounds = number,
            _ => {
                eprintln!("usage: pool [--threads N] [--rounds N]");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{} threads, {rounds} rounds; microseconds, median (least)", num_threads());
    println!(
        "{:>8}  {:>16}  {:>16}  {:>16}  {:>16}",
        "gap", "empty", "all meet", "in step: empty", "all meet"
    );
    for gap in GAPS_US {
        let gap = Duration::from_micros(gap);
        let rounds = if gap.as_micros() < 100 { rounds } else { rounds / 10 };
        let (between, meeting) = (shown(rounds, gap, empty), shown(rounds, gap, meet));
        let step = begin_step(None);
        let (inside, meeting_inside) = (shown(rounds, gap, empty), shown(rounds, gap, meet));
        drop(step);
        println!(
            "{:>6}us  {between:>16}  {meeting:>16}  {inside:>16}  {meeting_inside:>16}",
            gap.as_micros()
        );
    }
    ExitCode::SUCCESS
}

fn empty(threads: usize) {
    parallel_for(threads, &|_| {}).expect("nothing panics");
}

fn meet(threads: usize) {
    let arrived = AtomicUsize::new(0);
    parallel_for(threads, &|_| {
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < threads {
            std::hint::spin_loop();
        }
    })
    .expect("nothing panics");
}

fn shown(rounds: usize, gap: Duration, region: impl Fn(usize)) -> String {
    let threads = num_threads();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let end = Instant::now() + gap;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            region(threads);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let us = |time: Duration| time.as_nanos() as f64 / 1e3;
    format!("{:.2} ({:.2})", us(times[times.len() / 2]), us(times[0]))
}

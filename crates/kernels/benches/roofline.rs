//! Each kernel as a share of what this machine can do: read bandwidth and fused multiply-adds are measured first.
//!
//! `cargo bench -p vlinders-kernels --bench roofline [-- WORD...]` prints the rows whose name holds one of the
//! words. Limits and kernels are measured in turn, round after round, and medians of the ratios are printed, so
//! that a busy machine disturbs both alike.

#![allow(unsafe_code, reason = "the limits are measured with vector instructions")]
#![allow(missing_docs, reason = "a program")]

#[path = "roofline/limits.rs"]
mod limits;
#[path = "roofline/work.rs"]
mod work;

use self::limits::Limits;
use self::work::Work;

const ROUNDS: usize = 7;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let threads = vlinders_kernels::num_threads();
    let limits = Limits::new(threads);
    let first = limits.measure();
    println!(
        "{threads} threads: {:.1} GB/s read, {:.0} GFLOP/s, {:.0} GFLOP/s of bf16 pairs, {:.0} GOP/s of codes",
        first.bandwidth / 1e9,
        first.flops / 1e9,
        first.pair_flops / 1e9,
        first.code_ops / 1e9
    );
    println!("{:<34} {:>10} {:>9} {:>9} {:>9}", "kernel", "ms", "GB/s", "GFLOP/s", "of limit");
    for plan in work::plans() {
        if words.is_empty() || words.iter().any(|word| plan.name.contains(word)) {
            print_share(&limits, &plan.prepare());
        }
    }
}

/// The limit of a kernel is the sum's larger part: reading its bytes, or doing its multiply-adds.
fn print_share(limits: &Limits, work: &Work) {
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|_| {
            let now = limits.measure();
            let seconds = work.seconds();
            let least = (work.bytes / now.bandwidth).max(work.flops / (work.rate)(&now));
            (seconds, least / seconds)
        })
        .collect();
    let mut median = |key: fn(&(f64, f64)) -> f64| {
        rounds.sort_by(|a, b| key(a).total_cmp(&key(b)));
        key(&rounds[ROUNDS / 2])
    };
    let (seconds, share) = (median(|r| r.0), median(|r| r.1));
    println!(
        "{:<34} {:>10.3} {:>9.1} {:>9.1} {:>9.2}",
        work.name,
        seconds * 1e3,
        work.bytes / seconds / 1e9,
        work.flops / seconds / 1e9,
        share
    );
}

//! How much of the processor the threads that serve HTTP take: what serving costs beside computing.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Adds up the processor time of threads. Cheap to clone; clones add to the same sum.
#[derive(Debug, Clone, Default)]
pub struct CpuTime(Arc<AtomicU64>);

thread_local! {
    /// What this thread had taken when it last told, in nanoseconds.
    static TOLD: Cell<u64> = const { Cell::new(0) };
}

// === impl CpuTime ===

impl CpuTime {
    /// Add what the calling thread has taken since it last did so. Asks the system, in less than a microsecond: made
    /// for the moments before a thread goes to sleep, or ends.
    pub fn tell(&self) {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        let before = TOLD.replace(now);
        self.0.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_counts_and_only_once() {
        let time = CpuTime::default();
        let thread_of = |time: CpuTime| {
            std::thread::spawn(move || {
                let mut number = 1_u64;
                for step in 0..5_000_000 {
                    number = std::hint::black_box(number.wrapping_mul(step | 1));
                }
                time.tell();
                let worked = time.total();
                std::thread::sleep(Duration::from_millis(20));
                time.tell();
                worked
            })
        };
        let worked = thread_of(time.clone()).join().expect("a sum");
        assert!(worked > Duration::ZERO);
        assert!(time.total() < worked + Duration::from_millis(10), "sleep is no work: {:?}", time.total());
        thread_of(time.clone()).join().expect("a sum");
        assert!(time.total() > worked, "a second thread adds to the same sum");
    }
}

//! Whether a step loop goes on: readiness is progress, not a ping.

use std::time::{Duration, Instant};

/// Watches the steps of one engine.
#[derive(Debug)]
pub(crate) struct Progress {
    steps: u64,
    /// When it last had no work, or was seen to complete a step.
    since: Instant,
}

impl Progress {
    pub(crate) fn new(now: Instant) -> Self {
        Self { steps: 0, since: now }
    }

    /// Note what is seen now; gives how long it has had work without completing a step. The shorter the time between
    /// two looks, the more exact.
    pub(crate) fn observe(&mut self, now: Instant, has_work: bool, steps: u64) -> Duration {
        if !has_work || steps != self.steps {
            self.steps = steps;
            self.since = now;
        }
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_without_steps_is_a_stall() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(start);
        assert_eq!(progress.observe(at(100), false, 0), Duration::ZERO, "idle");
        assert_eq!(
            progress.observe(at(101), true, 0),
            Duration::from_secs(1),
            "counted from the last idle look"
        );
        assert_eq!(progress.observe(at(130), true, 0), Duration::from_secs(30));
        assert_eq!(progress.observe(at(131), true, 1), Duration::ZERO, "a step");
        assert_eq!(progress.observe(at(141), true, 1), Duration::from_secs(10));
        assert_eq!(progress.observe(at(142), false, 1), Duration::ZERO, "nothing left to do");
    }
}

//! How long a worker that has nothing to do looks for work before it sleeps.
//!
//! Waking a sleeper takes longer than most regions, so inside a step, where the next region is near, workers wait
//! awake; between steps for a moment only, since the next step may never come. They never offer their core while
//! they wait: where others want it, `sched_yield` gave it away for three milliseconds, and a sleeper is back within twenty
//! microseconds. Time is measured, not counted: a pause of the processor takes anything from ten to two hundred cycles.

use std::time::{Duration, Instant};

/// Inside a step: longer than norms, attention set-up and sampling of a few sequences take.
const IN_STEP: Duration = Duration::from_micros(500);
/// Between steps: longer than planning one takes.
const BETWEEN_STEPS: Duration = Duration::from_micros(50);
/// Where there are more threads than CPUs: someone who has work waits for this core.
const CROWDED: Duration = Duration::from_micros(10);
/// Looks between two looks at the clock.
const LOOKS: u32 = 32;

/// One wait.
#[derive(Default)]
pub(super) struct Patience {
    looks: u32,
    /// Since when; a wait that ends within the first looks never asks.
    since: Option<Instant>,
}

/// What is known about the time until the next region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outlook {
    /// An engine is inside a step.
    pub(super) in_step: bool,
    /// There are more threads than CPUs.
    pub(super) crowded: bool,
}

// === impl Patience ===

impl Patience {
    /// Pause before the next look; false when it is time to sleep.
    pub(super) fn pause(&mut self, outlook: impl Fn() -> Outlook) -> bool {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            let now = Instant::now();
            if now - *self.since.get_or_insert(now) > outlook().most() {
                return false;
            }
        }
        std::hint::spin_loop();
        true
    }
}

// === impl Outlook ===

impl Outlook {
    fn most(self) -> Duration {
        match self {
            Self { crowded: true, .. } => CROWDED,
            Self { in_step: true, .. } => IN_STEP,
            _ => BETWEEN_STEPS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one wait comes to: whether it ended, whatever the time it took on a busy machine.
    fn ends(mut patience: Patience, outlook: Outlook) -> bool {
        (0..100_000_000).any(|_| !patience.pause(|| outlook))
    }

    #[test]
    fn every_wait_ends() {
        for (in_step, crowded) in [(false, false), (true, false), (false, true), (true, true)] {
            assert!(ends(Patience::default(), Outlook { in_step, crowded }));
        }
    }

    #[test]
    fn a_wait_that_outlasts_its_step_ends_with_it() {
        let long_ago = Instant::now() - (IN_STEP + BETWEEN_STEPS) / 2;
        let waiting = || Patience { looks: LOOKS - 1, since: Some(long_ago) };
        assert!(!waiting().pause(|| Outlook { in_step: false, crowded: false }));
        assert!(
            !waiting().pause(|| Outlook { in_step: true, crowded: true }),
            "others have work for this core"
        );
    }

    #[test]
    fn waits_are_longest_inside_a_step_and_shortest_in_a_crowd() {
        let most = |in_step, crowded| Outlook { in_step, crowded }.most();
        assert!(most(true, false) > most(false, false));
        assert!(most(false, false) > most(false, true));
        assert_eq!(most(true, true), most(false, true));
    }
}

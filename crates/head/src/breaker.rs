//! When a worker that fails is left alone, and how it gets a chance again.

use std::time::{Duration, Instant};

/// Failures in a row that open it.
const MAX_FAILURES: u32 = 3;

/// Its first and its longest rest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// A circuit breaker: closed, open, or half open with one request on trial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Breaker {
    /// Failures since the last success.
    failures: u32,
    /// While open: until when, and how long the rest is.
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    rest: Duration,
    /// The request on trial was sent at this time.
    trial: Option<Instant>,
}

/// What a breaker says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// Requests pass.
    Closed,
    /// One may pass, to find out.
    HalfOpen,
    /// None passes.
    Open,
}

// === impl Breaker ===

impl Breaker {
    /// Whether a request may pass.
    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        match self.open {
            None => Circuit::Closed,
            // A trial of which nothing was heard, as its client left, does not keep the breaker open for ever.
            Some(Open { until, rest, trial }) if now >= until => match trial {
                Some(sent) if now < sent + rest.max(FIRST_REST) => Circuit::Open,
                _ => Circuit::HalfOpen,
            },
            Some(_) => Circuit::Open,
        }
    }

    /// A request is about to be sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.trial = Some(now);
        }
    }

    /// The worker has answered. Returns whether that closed an open breaker.
    pub(crate) fn succeeded(&mut self) -> bool {
        self.failures = 0;
        self.open.take().is_some()
    }

    /// The worker has failed. Returns whether that opened the breaker.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let rest = match self.open {
            Some(open) if open.trial.is_some() => (open.rest * 2).min(LONGEST_REST),
            // One of those that were under way when it opened.
            Some(_) => return false,
            None if self.failures >= MAX_FAILURES => FIRST_REST,
            None => return false,
        };
        self.open = Some(Open { until: now + rest, rest, trial: None });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        assert!(!breaker.failed(now) && !breaker.failed(now));
        assert_eq!(breaker.circuit(now), Circuit::Closed);
        assert!(breaker.failed(now));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            breaker.failed(now);
            breaker.failed(now);
            assert!(!breaker.succeeded());
        }
        assert_eq!(breaker.circuit(now), Circuit::Closed);
        assert_eq!(opened(now).circuit(now), Circuit::Open);
    }

    #[test]
    fn one_trial_decides() {
        let now = Instant::now();
        let later = now + FIRST_REST;
        let mut breaker = opened(now);
        assert!(!breaker.failed(now), "a straggler");
        assert_eq!(breaker.circuit(later), Circuit::HalfOpen);
        breaker.sent(later);
        assert_eq!(breaker.circuit(later), Circuit::Open, "one at a time");
        assert!(breaker.succeeded());
        assert_eq!(breaker.circuit(later), Circuit::Closed);
    }

    #[test]
    fn each_failed_trial_doubles_the_rest_up_to_a_bound() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        let mut rest = FIRST_REST;
        for _ in 0..8 {
            now += rest;
            assert_eq!(breaker.circuit(now - Duration::from_millis(1)), Circuit::Open);
            assert_eq!(breaker.circuit(now), Circuit::HalfOpen);
            breaker.sent(now);
            assert!(breaker.failed(now));
            rest = (rest * 2).min(LONGEST_REST);
        }
        assert_eq!(rest, LONGEST_REST);
    }

    #[test]
    fn a_trial_that_is_never_heard_of_is_not_the_last() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.sent(now + FIRST_REST);
        assert_eq!(breaker.circuit(now + FIRST_REST * 2), Circuit::HalfOpen);
    }
}

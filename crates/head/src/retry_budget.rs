//! How many requests may be sent a second time: a share of all, so that retries never multiply an overload.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a request adds, and what a retry takes: one in five.
const EARNED: u32 = 1;
const PRICE: u32 = 5;

/// A few retries are always possible; savings end here.
const FIRST_SAVINGS: u32 = 20 * PRICE;
const MAX_SAVINGS: u32 = 200 * PRICE;

/// Savings of retries. All requests of a model share one.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU32);

// === impl RetryBudget ===

impl Default for RetryBudget {
    fn default() -> Self {
        Self(AtomicU32::new(FIRST_SAVINGS))
    }
}

impl RetryBudget {
    /// A request has come.
    pub(crate) fn earn(&self) {
        let more = |savings: u32| (savings < MAX_SAVINGS).then_some(savings + EARNED);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether a retry may be made; it is paid for.
    pub(crate) fn spend(&self) -> bool {
        let less = |savings: u32| savings.checked_sub(PRICE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_requests() {
        let budget = RetryBudget::default();
        let first = (0..1000).take_while(|_| budget.spend()).count();
        assert_eq!(first, 20);
        for _ in 0..50 {
            budget.earn();
        }
        assert_eq!((0..1000).take_while(|_| budget.spend()).count(), 10);
        for _ in 0..1_000_000 {
            budget.earn();
        }
        assert_eq!((0..1000).take_while(|_| budget.spend()).count(), 200);
    }
}

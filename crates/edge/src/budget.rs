//! Memory that requests on their way in may take, all together: taken byte by byte as they arrive, given back on drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that can be lent. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    lent: AtomicUsize,
}

/// Bytes that a request takes. It goes where the request goes, so that they count until nothing is left of it.
#[derive(Debug)]
pub struct BodyLease {
    budget: Budget,
    bytes: usize,
}

// === impl Budget ===

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, lent: AtomicUsize::new(0) }))
    }

    pub(crate) fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that are lent now.
    pub(crate) fn lent(&self) -> usize {
        self.0.lent.load(Ordering::Relaxed)
    }

    /// Bytes that could be lent now.
    pub(crate) fn free(&self) -> usize {
        self.0.limit.saturating_sub(self.lent())
    }

    /// A lease of nothing yet.
    pub(crate) fn open(&self) -> BodyLease {
        BodyLease { budget: self.clone(), bytes: 0 }
    }
}

// === impl BodyLease ===

impl BodyLease {
    /// Take `bytes` more. False, and nothing is taken, if that is more than there are.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let Inner { limit, lent } = &*self.budget.0;
        let more = |lent: usize| lent.checked_add(bytes).filter(|lent| lent <= limit);
        let taken = lent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }
}

impl Drop for BodyLease {
    fn drop(&mut self) {
        self.budget.0.lent.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_comes_back() {
        let budget = Budget::new(10);
        let (mut first, mut second) = (budget.open(), budget.open());
        assert!(first.grow(4) && second.grow(5) && first.grow(1));
        assert!(!second.grow(1) && !second.grow(usize::MAX));
        assert_eq!((budget.lent(), budget.free()), (10, 0));
        drop(first);
        assert_eq!(budget.free(), 5);
        assert!(second.grow(5));
        drop(second);
        assert_eq!(budget.lent(), 0);
    }

    #[test]
    fn the_limit_holds_between_threads() {
        let budget = Budget::new(100);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let mut lease = budget.open();
                        lease.grow(40);
                        assert!(budget.lent() <= 100);
                    }
                });
            }
        });
        assert_eq!(budget.lent(), 0);
    }
}

//! Who gets in: a bound on the requests in flight, and none once the server drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Bounds the number of requests in flight. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

/// The right to be served. It moves into the response body, so it lives as long as the answer does.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
}

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// As many requests are in flight as the server takes.
    #[error("the server is busy with {limit} requests, as many as it takes; retry later")]
    Full {
        /// How many it takes.
        limit: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// The server is shutting down.
    #[error("the server is shutting down and takes no new requests")]
    Closed {
        /// When another instance should be there.
        retry_after: Duration,
    },
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    retry_after: Duration,
    in_flight: AtomicUsize,
    closed: AtomicBool,
    /// Woken each time the last request leaves.
    idle: Notify,
}

// === impl Admission ===

impl Admission {
    /// At most `limit` requests at a time; others are told to come back after `retry_after`.
    #[must_use]
    pub fn new(limit: usize, retry_after: Duration) -> Self {
        let inner = Inner {
            limit,
            retry_after,
            in_flight: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            idle: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Let a request in.
    ///
    /// # Errors
    /// The server is full or shutting down.
    pub fn try_admit(&self) -> Result<Permit, Rejected> {
        let Inner { limit, retry_after, .. } = *self.inner;
        // The permit exists before `closed` is read, so that `idle` waits for a request that slips in.
        let count = self.inner.in_flight.fetch_add(1, Ordering::SeqCst);
        let permit = Permit { inner: Arc::clone(&self.inner) };
        if self.inner.closed.load(Ordering::SeqCst) {
            return Err(Rejected::Closed { retry_after });
        }
        if count >= limit {
            return Err(Rejected::Full { limit, retry_after });
        }
        Ok(permit)
    }

    /// Let nobody in from now on.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
    }

    /// Nobody is let in any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::SeqCst)
    }

    /// Number of requests in flight, exact.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.in_flight.load(Ordering::SeqCst)
    }

    /// Wait until no request is in flight.
    pub async fn idle(&self) {
        loop {
            let notified = self.inner.idle.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

// === impl Permit ===

impl Drop for Permit {
    fn drop(&mut self) {
        if self.inner.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.inner.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limit: usize) -> Admission {
        Admission::new(limit, Duration::from_secs(1))
    }

    #[test]
    fn the_limit_holds_and_permits_come_back() {
        let admission = admission(2);
        let first = admission.try_admit().expect("room");
        let _second = admission.try_admit().expect("room");
        assert!(matches!(admission.try_admit(), Err(Rejected::Full { limit: 2, .. })));
        assert_eq!(admission.in_flight(), 2, "a rejected request leaves no trace");
        drop(first);
        assert_eq!(admission.in_flight(), 1);
        admission.try_admit().expect("room again");
    }

    #[test]
    fn a_closed_door_lets_nobody_in() {
        let admission = admission(2);
        let _inside = admission.try_admit().expect("room");
        admission.close();
        assert!(matches!(admission.try_admit(), Err(Rejected::Closed { .. })));
        assert_eq!(admission.in_flight(), 1);
    }

    #[tokio::test]
    async fn idle_waits_for_the_last_one() {
        let admission = admission(2);
        admission.idle().await;
        let first = admission.try_admit().expect("room");
        let second = admission.try_admit().expect("room");
        let waiter = tokio::spawn({
            let admission = admission.clone();
            async move { admission.idle().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(second);
        waiter.await.expect("woken");
    }

    #[test]
    fn the_limit_holds_between_threads() {
        let admission = admission(8);
        let peak = AtomicUsize::new(0);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let held: Vec<_> = (0..3).filter_map(|_| admission.try_admit().ok()).collect();
                        let now = inside.fetch_add(held.len(), Ordering::SeqCst) + held.len();
                        peak.fetch_max(now, Ordering::SeqCst);
                        inside.fetch_sub(held.len(), Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert!(peak.load(Ordering::SeqCst) <= 8);
        assert_eq!(admission.in_flight(), 0);
    }
}

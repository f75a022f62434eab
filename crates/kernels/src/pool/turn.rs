//! Whose region runs next: callers are served in the order in which they came.
//!
//! A plain mutex would let an engine that starts region after region keep a second engine waiting for ever.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

const SPINS: u32 = 500;

/// A fair lock.
#[derive(Default)]
pub(super) struct Turns {
    next_ticket: AtomicU64,
    serving: AtomicU64,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
}

/// The right to run a region; gives the turn on when dropped.
pub(super) struct Turn<'a>(&'a Turns);

// === impl Turns ===

impl Turns {
    pub(super) fn wait(&self) -> Turn<'_> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        for _ in 0..SPINS {
            if self.serving.load(Ordering::Acquire) == ticket {
                return Turn(self);
            }
            std::hint::spin_loop();
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while self.serving.load(Ordering::SeqCst) != ticket {
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.serving.fetch_add(1, Ordering::SeqCst);
        if self.0.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = self.0.bed.lock().unwrap_or_else(PoisonError::into_inner);
            self.0.wake.notify_all();
        }
    }
}

//! What a step of an engine tells the pool: that regions will follow each other, and how many threads they may have.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{CURRENT, Pool};

/// Held by a thread while it runs a step. Workers are woken when it begins and wait awake for regions until it ends.
#[must_use = "the step ends when this is dropped"]
pub struct StepGuard {
    outer_limit: usize,
    outer_pool: Option<&'static Pool>,
    pool: &'static Pool,
    /// The limit is one of this thread.
    not_send: PhantomData<*const ()>,
}

thread_local! {
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    static SEAT: RefCell<Seat> = const { RefCell::new(Seat { plan: 0, held: None }) };
}

/// The core of the caller, for one thread at a time: two bound to it would wait for each other.
#[derive(Default)]
pub(super) struct FirstSeat(AtomicBool);

/// What the calling thread knows of its core.
struct Seat {
    /// The plan that it follows.
    plan: usize,
    held: Option<&'static FirstSeat>,
}

/// Begin a step on this thread. Its regions run on `max_threads` threads of the pool at most, this one included; `None`
/// is all of them. Where threads are bound, this one is bound to the first core unless another thread is.
pub fn begin_step(max_threads: Option<usize>) -> StepGuard {
    begin_step_in(Pool::global(), max_threads.unwrap_or(usize::MAX).max(1))
}

/// Begin a step on this thread whose regions run in `pool`.
pub(super) fn begin_step_in(pool: &'static Pool, max_threads: usize) -> StepGuard {
    let outer_limit = LIMIT.replace(max_threads);
    let outer_pool = CURRENT.replace(Some(pool));
    SEAT.with_borrow_mut(|seat| seat.follow(pool));
    pool.num_steps.fetch_add(1, Ordering::Relaxed);
    pool.rouse(pool.num_threads());
    StepGuard { outer_limit, outer_pool, pool, not_send: PhantomData }
}

/// Threads that regions of the calling thread may have.
pub(super) fn limit() -> usize {
    LIMIT.get()
}

impl Drop for StepGuard {
    fn drop(&mut self) {
        LIMIT.set(self.outer_limit);
        CURRENT.set(self.outer_pool);
        self.pool.num_steps.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Seat ===

impl Seat {
    fn follow(&mut self, pool: &'static Pool) {
        let plan = pool.plan.version();
        if self.held.is_some_and(|held| !std::ptr::eq(held, &raw const pool.first_seat)) {
            self.release();
        }
        if plan == 0 || (self.held.is_some() && self.plan == plan) {
            return;
        }
        if self.held.is_none() && !pool.first_seat.0.swap(true, Ordering::Relaxed) {
            self.held = Some(&pool.first_seat);
        }
        if self.held.is_some() {
            self.plan = plan;
            pool.plan.apply(0);
        }
    }

    fn release(&mut self) {
        if let Some(seat) = self.held.take() {
            seat.0.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.release();
    }
}

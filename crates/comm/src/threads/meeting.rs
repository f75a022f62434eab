//! Where ranks wait for each other: awake for a while, then asleep, until all are there or the group is broken.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a rank waits awake inside a step: the others are at work on the same thing.
pub(super) const IN_STEP: Duration = Duration::from_micros(500);
/// How long it waits awake for the next step, which may never come.
pub(super) const OUTSIDE: Duration = Duration::from_micros(50);
/// Looks between two looks at the clock.
const LOOKS: u32 = 32;

/// A barrier that can be called off.
#[derive(Debug)]
pub(super) struct Meeting {
    size: u64,
    /// Ranks do not wait awake where there are more of them than CPUs: someone else needs the one they wait on.
    crowded: bool,
    /// Arrivals at all meetings together.
    arrived: AtomicU64,
    called_off: AtomicBool,
    sleepers: AtomicUsize,
    bed: Mutex<Option<String>>,
    wake: Condvar,
}

// === impl Meeting ===

impl Meeting {
    pub(super) fn new(size: usize) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            size: size as u64,
            crowded: size > cpus,
            arrived: AtomicU64::new(0),
            called_off: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Arrive at meeting `number`, counted from 0, and wait until all are there. A rank arrives at each of them once, in
    /// order. The error is why the group is broken.
    pub(super) fn meet(&self, number: u64, awake: Duration) -> Result<(), String> {
        let all = (number + 1) * self.size;
        if self.arrived.fetch_add(1, Ordering::SeqCst) + 1 == all {
            self.wake_all();
        }
        let is_over = || self.arrived.load(Ordering::SeqCst) >= all || self.called_off.load(Ordering::SeqCst);
        if !(is_over() || (!self.crowded && looks_until(awake, is_over))) {
            self.sleep(is_over);
        }
        // Who has met all may go on, even if someone has left since: the next meeting fails.
        if self.arrived.load(Ordering::SeqCst) >= all { Ok(()) } else { Err(self.reason()) }
    }

    /// Whether there still is a group. Who has failed to meet the others once must not put down another offer: they may not
    /// have read the one before.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.called_off.load(Ordering::SeqCst) { Err(self.reason()) } else { Ok(()) }
    }

    /// Break the group. The first reason is the one that counts.
    pub(super) fn call_off(&self, reason: &str) {
        self.lock().get_or_insert_with(|| reason.to_owned());
        self.called_off.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    fn reason(&self) -> String {
        self.lock().clone().unwrap_or_else(|| "a rank has left".to_owned())
    }

    fn sleep(&self, is_over: impl Fn() -> bool) {
        let mut bed = self.lock();
        // Either the last to arrive sees a sleeper, or the sleeper sees that all have arrived.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !is_over() {
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn wake_all(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = self.lock();
            self.wake.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.bed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Look whether it is over until it is, or until `awake` has passed.
fn looks_until(awake: Duration, is_over: impl Fn() -> bool) -> bool {
    let mut since = None;
    loop {
        for _ in 0..LOOKS {
            if is_over() {
                return true;
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now - *since.get_or_insert(now) > awake {
            return false;
        }
    }
}

//! The threads that kernels run on: one pool for the whole process, one parallel region at a time.
//!
//! A region is a number of chunks and a body; the caller and the workers take chunks from one counter until
//! none is left. A body must write what its chunk number says and nothing else, so results never depend on
//! who ran what. The caller waits only for workers that have joined: one that the system schedules late finds
//! the region closed and costs nothing. Between regions workers spin for some ten microseconds, then sleep.

mod topology;
mod turn;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use self::turn::Turns;
use crate::error::{KernelError, Result};

/// Polls before a worker goes to sleep; a few tens of microseconds.
const SPINS_BEFORE_SLEEP: u32 = 1_000;
/// Polls before a caller that waits for a joined worker offers its core to others.
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// Word: epoch in the upper bits, then one bit that says workers may join, then how many have joined.
const JOINED: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const EPOCH_SHIFT: u32 = 17;
const MAX_WORKERS: usize = 4096;

type Body<'a> = &'a (dyn Fn(usize) + Sync);

/// The region that is running. Its body is borrowed from the caller, who outlives the region.
#[derive(Clone, Copy)]
struct Region {
    body: Body<'static>,
    num_chunks: usize,
}

struct Pool {
    word: AtomicU64,
    /// Written by the caller that holds the turn while the region is closed and no one has joined.
    region: UnsafeCell<Option<Region>>,
    next_chunk: AtomicUsize,
    panicked: Mutex<Option<String>>,
    turns: Turns,
    /// Threads that may take part in a region, the caller included.
    num_threads: AtomicUsize,
    num_spawned: Mutex<usize>,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    wake: Condvar,
}

// SAFETY: `region` is the only part that is not Sync by itself. It is written only between regions, by the one
// caller whose turn it is, and read only by threads that joined an open region; `word` orders the two.
unsafe impl Sync for Pool {}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Run `body(0)` to `body(num_chunks - 1)`, each once, in any order, on the pool; return when all are done.
///
/// Inside of another region, or with one thread, the chunks run on the calling thread. Callers on different
/// threads take turns.
///
/// # Errors
/// [`KernelError::Panicked`] if the body panicked; the other chunks may or may not have run.
pub(crate) fn parallel_for(num_chunks: usize, body: Body<'_>) -> Result<()> {
    if num_chunks == 0 {
        return Ok(());
    }
    let pool = Pool::global();
    if num_chunks == 1 || INSIDE.get() || pool.num_threads.load(Ordering::Relaxed) == 1 {
        return catch_unwind(AssertUnwindSafe(|| (0..num_chunks).for_each(body)))
            .map_err(|payload| KernelError::Panicked(message(&*payload)));
    }
    pool.run(num_chunks, body)
}

/// Share `rows` rows of `row_elements` numbers each among the threads, as ranges; small work stays on the caller.
///
/// # Errors
/// [`KernelError::Panicked`] if the body panicked.
pub(crate) fn parallel_rows(
    rows: usize,
    row_elements: usize,
    body: &(dyn Fn(std::ops::Range<usize>) + Sync),
) -> Result<()> {
    /// Elements below which a chunk is not worth handing to another thread.
    const WORTHWHILE: usize = 16 * 1024;
    let rows_per_chunk = (WORTHWHILE / row_elements.max(1)).max(1).max(rows / (8 * num_threads()));
    parallel_for(rows.div_ceil(rows_per_chunk), &|chunk| {
        let first = chunk * rows_per_chunk;
        body(first..rows.min(first + rows_per_chunk));
    })
}

/// Set how many threads kernels use, the calling thread included; at least one.
pub fn set_num_threads(n: usize) {
    Pool::global().resize(n.clamp(1, MAX_WORKERS));
}

/// How many threads kernels use. Unless set, the number of physical cores this process may run on, or the CPU
/// limit of its control group where that is smaller.
#[must_use]
pub fn num_threads() -> usize {
    Pool::global().num_threads.load(Ordering::Relaxed)
}

// === impl Pool ===

impl Pool {
    fn global() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        static START: std::sync::Once = std::sync::Once::new();
        let pool = POOL.get_or_init(|| Self {
            word: AtomicU64::new(0),
            region: UnsafeCell::new(None),
            next_chunk: AtomicUsize::new(0),
            panicked: Mutex::new(None),
            turns: Turns::default(),
            num_threads: AtomicUsize::new(1),
            num_spawned: Mutex::new(0),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            wake: Condvar::new(),
        });
        START.call_once(|| pool.resize(topology::default_threads().clamp(1, MAX_WORKERS)));
        pool
    }

    fn resize(&'static self, n: usize) {
        let mut spawned = lock(&self.num_spawned);
        while *spawned + 1 < n {
            let index = *spawned;
            let thread = std::thread::Builder::new()
                .name(format!("vlinders-kernel-{index}"))
                .spawn(move || self.work(index));
            if thread.is_err() {
                break;
            }
            *spawned += 1;
        }
        self.num_threads.store(n.min(*spawned + 1), Ordering::Relaxed);
    }

    fn run(&self, num_chunks: usize, body: Body<'_>) -> Result<()> {
        let _turn = self.turns.wait();
        // SAFETY: only the lifetime changes. The region is closed and left by all before this function returns.
        let body = unsafe { std::mem::transmute::<Body<'_>, Body<'static>>(body) };
        // SAFETY: it is our turn, the last region is closed and everyone has left it.
        unsafe { *self.region.get() = Some(Region { body, num_chunks }) };
        self.next_chunk.store(0, Ordering::Relaxed);
        let epoch = (self.word.load(Ordering::Relaxed) >> EPOCH_SHIFT) + 1;
        self.word.store(epoch << EPOCH_SHIFT | OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bed = lock(&self.bed);
            self.wake.notify_all();
        }
        self.take_chunks(Region { body, num_chunks });
        self.word.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.word.load(Ordering::Acquire) & JOINED != 0 {
            if spins < SPINS_BEFORE_YIELD {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        match lock(&self.panicked).take() {
            Some(message) => Err(KernelError::Panicked(message)),
            None => Ok(()),
        }
    }

    fn take_chunks(&self, region: Region) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            INSIDE.set(true);
            loop {
                let chunk = self.next_chunk.fetch_add(1, Ordering::Relaxed);
                if chunk >= region.num_chunks {
                    break;
                }
                (region.body)(chunk);
            }
        }));
        INSIDE.set(false);
        if let Err(payload) = outcome {
            self.next_chunk.store(region.num_chunks, Ordering::Relaxed);
            *lock(&self.panicked) = Some(message(&*payload));
        }
    }

    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            seen = self.next_epoch(seen, index);
            if index + 1 < self.num_threads.load(Ordering::Relaxed) && self.join(seen) {
                // SAFETY: we have joined, so the region stays as it is until we leave.
                if let Some(region) = unsafe { *self.region.get() } {
                    self.take_chunks(region);
                }
                self.word.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Wait for an epoch other than `seen`.
    fn next_epoch(&self, seen: u64, index: usize) -> u64 {
        let now = || self.word.load(Ordering::SeqCst) >> EPOCH_SHIFT;
        if index + 1 < self.num_threads.load(Ordering::Relaxed) {
            for _ in 0..SPINS_BEFORE_SLEEP {
                let epoch = now();
                if epoch != seen {
                    return epoch;
                }
                std::hint::spin_loop();
            }
        }
        let mut bed = lock(&self.bed);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while now() == seen {
            bed = self.wake.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        now()
    }

    /// Join the region of `epoch` unless it is over.
    fn join(&self, epoch: u64) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >> EPOCH_SHIFT == epoch && word & OPEN != 0 {
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(found) => word = found,
            }
        }
        false
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;

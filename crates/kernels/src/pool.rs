//! The threads that kernels run on: one pool for the whole process, or one for each rank of a model that is split among
//! threads. A pool runs one parallel region at a time.
//!
//! A region is a number of chunks and a body; the caller and the workers take chunks from one counter until
//! none is left. A body must write what its chunk number says and nothing else, so results never depend on
//! who ran what. The caller waits only for workers that have joined: one that the system schedules late finds
//! the region closed and costs nothing. Between regions workers look for the next one for a while, then sleep.

mod binding;
mod bunks;
mod patience;
mod setup;
mod step;
mod team;
mod turn;

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub use self::binding::{Binding, Pinning};
use self::bunks::Bunks;
use self::patience::{Outlook, Patience};
use self::setup::Plan;
pub use self::setup::{ComputeOptions, ComputeReport, configure_compute, default_num_threads, usable_cpus};
use self::step::{FirstSeat, limit};
pub use self::step::{StepGuard, begin_step};
pub use self::team::{Team, split_threads};
use self::turn::Turns;
use crate::error::{KernelError, Result};
use crate::topology::topology;

/// Looks before a caller that waits for a joined worker offers its core to others.
const LOOKS_BEFORE_YIELD: u32 = 2_000;

/// Word: epoch in the upper bits, then one bit that says workers may join, then how many have joined.
const JOINED: u64 = 0xffff;
const OPEN: u64 = 1 << 16;
const EPOCH_SHIFT: u32 = 17;
const EPOCH: u64 = 1 << EPOCH_SHIFT;
const MAX_THREADS: usize = 1024;

type Body<'a> = &'a (dyn Fn(usize) + Sync);

/// The region that is running. Its body is borrowed from the caller, who outlives the region.
#[derive(Clone, Copy)]
struct Region {
    body: Body<'static>,
    num_chunks: usize,
    /// Threads that may take part, the caller included.
    num_threads: usize,
}

/// Threads are numbered: 0 is whoever calls a region, workers count from 1.
struct Pool {
    word: AtomicU64,
    /// Written by the caller that holds the turn while the region is closed and no one has joined.
    region: UnsafeCell<Option<Region>>,
    next_chunk: AtomicUsize,
    panicked: Mutex<Option<String>>,
    turns: Turns,
    /// Threads that may take part in a region, the caller included.
    num_threads: AtomicUsize,
    /// Threads that are wanted awake by the last region or step: who is not need not look for work.
    num_wanted: AtomicUsize,
    num_spawned: Mutex<usize>,
    bunks: Bunks,
    /// Steps that are running.
    num_steps: AtomicUsize,
    /// There are more threads than CPUs.
    crowded: AtomicBool,
    plan: Plan,
    first_seat: FirstSeat,
}

// SAFETY: `region` is the only part that is not Sync by itself. It is written only between regions, by the one
// caller whose turn it is, and read only by threads that joined an open region; `word` orders the two.
unsafe impl Sync for Pool {}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// The pool of the step that the thread is in.
    static CURRENT: Cell<Option<&'static Pool>> = const { Cell::new(None) };
}

/// Run `body(0)` to `body(num_chunks - 1)`, each once, in any order, on the pool; return when all are done.
///
/// Inside of another region, or with one thread, the chunks run on the calling thread. Callers on different
/// threads take turns.
///
/// # Errors
/// [`KernelError::Panicked`] if the body panicked; the other chunks may or may not have run.
pub fn parallel_for(num_chunks: usize, body: &(dyn Fn(usize) + Sync)) -> Result<()> {
    if num_chunks == 0 {
        return Ok(());
    }
    let pool = Pool::current();
    if num_chunks == 1 || INSIDE.get() || pool.num_threads() == 1 {
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
    Pool::global().resize(n.clamp(1, MAX_THREADS));
}

/// How many threads the kernels that this thread calls use: those of the pool, or the limit of the step it is in. Unless
/// set, the pool has [`default_num_threads`].
#[must_use]
pub fn num_threads() -> usize {
    Pool::current().num_threads()
}

// === impl Pool ===

impl Pool {
    fn global() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        static START: std::sync::Once = std::sync::Once::new();
        let pool = POOL.get_or_init(|| Self::with_room_for(MAX_THREADS));
        START.call_once(|| pool.resize(default_num_threads()));
        pool
    }

    /// A pool of the calling thread alone, which can grow.
    fn with_room_for(num_threads: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            region: UnsafeCell::new(None),
            next_chunk: AtomicUsize::new(0),
            panicked: Mutex::new(None),
            turns: Turns::default(),
            num_threads: AtomicUsize::new(1),
            num_wanted: AtomicUsize::new(1),
            num_spawned: Mutex::new(0),
            bunks: Bunks::new(num_threads - 1),
            num_steps: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            plan: Plan::default(),
            first_seat: FirstSeat::default(),
        }
    }

    /// The pool of the calling thread's step, or that of the process.
    fn current() -> &'static Self {
        CURRENT.get().unwrap_or_else(Self::global)
    }

    /// Threads for a region of the calling thread.
    fn num_threads(&self) -> usize {
        self.num_threads.load(Ordering::Relaxed).min(limit())
    }

    fn resize(&'static self, n: usize) {
        let mut spawned = lock(&self.num_spawned);
        while *spawned + 1 < n {
            let thread = *spawned + 1;
            let spawn = std::thread::Builder::new()
                .name(format!("vlinders-kernel-{thread}"))
                .spawn(move || self.work(thread));
            if spawn.is_err() {
                break;
            }
            *spawned = thread;
        }
        let n = n.min(*spawned + 1);
        self.crowded.store(n > topology().usable, Ordering::Relaxed);
        self.num_threads.store(n, Ordering::Relaxed);
    }

    fn run(&self, num_chunks: usize, body: Body<'_>) -> Result<()> {
        let _turn = self.turns.wait();
        let num_threads = self.num_threads();
        // SAFETY: only the lifetime changes. The region is closed and left by all before this function returns.
        let body = unsafe { std::mem::transmute::<Body<'_>, Body<'static>>(body) };
        let region = Region { body, num_chunks, num_threads };
        // SAFETY: it is our turn, the last region is closed and everyone has left it.
        unsafe { *self.region.get() = Some(region) };
        self.next_chunk.store(0, Ordering::Relaxed);
        self.num_wanted.store(num_threads, Ordering::Relaxed);
        // Added, not stored: a step that begins meanwhile counts the epoch up too.
        self.word.fetch_add(EPOCH + OPEN, Ordering::SeqCst);
        self.bunks.wake(0, num_threads);
        self.take_chunks(region);
        self.word.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = if self.crowded.load(Ordering::Relaxed) { LOOKS_BEFORE_YIELD } else { 0 };
        while self.word.load(Ordering::Acquire) & JOINED != 0 {
            if looks < LOOKS_BEFORE_YIELD {
                looks += 1;
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

    /// Wake workers ahead of the regions that are about to come.
    fn rouse(&self, num_threads: usize) {
        if num_threads > 1 {
            self.num_wanted.store(num_threads, Ordering::Relaxed);
            self.word.fetch_add(EPOCH, Ordering::SeqCst);
            self.bunks.wake(0, num_threads);
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

    /// The life of worker `thread`.
    fn work(&self, thread: usize) {
        let (mut seen, mut plan) = (0, 0);
        let mut patience = Patience::default();
        loop {
            seen = self.next_epoch(seen, thread, &mut patience);
            if plan != self.plan.version() {
                plan = self.plan.version();
                self.plan.apply(thread);
            }
            let num_wanted = self.num_wanted.load(Ordering::Relaxed);
            if thread >= num_wanted {
                continue;
            }
            patience = Patience::default();
            self.bunks.wake(thread, num_wanted);
            if self.join(seen) {
                // SAFETY: we have joined, so the region stays as it is until we leave.
                if let Some(region) = unsafe { *self.region.get() }
                    && thread < region.num_threads
                {
                    self.take_chunks(region);
                }
                self.word.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// Wait for an epoch other than `seen`: awake while `patience` lasts, then asleep.
    fn next_epoch(&self, seen: u64, thread: usize, patience: &mut Patience) -> u64 {
        let now = || self.word.load(Ordering::SeqCst) >> EPOCH_SHIFT;
        let outlook = || Outlook {
            in_step: self.num_steps.load(Ordering::Relaxed) > 0,
            crowded: self.crowded.load(Ordering::Relaxed),
        };
        loop {
            let epoch = now();
            if epoch != seen {
                return epoch;
            }
            if !patience.pause(outlook) {
                break;
            }
        }
        self.bunks.sleep(thread, || now() != seen);
        *patience = Patience::default();
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

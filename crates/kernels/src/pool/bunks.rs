//! Where workers sleep, and who wakes whom: threads form a tree, and each wakes at most two others.
//!
//! Waking costs the waker some microseconds for each sleeper; with a tree the caller pays for two of them however many
//! there are, and the last of a hundred is woken after seven steps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

/// One place to sleep for each worker. The caller of a region is thread 0 and has none; worker threads count from 1.
pub(super) struct Bunks(Box<[Bunk]>);

/// On cache lines of its own: a worker that falls asleep disturbs no one.
#[repr(align(128))]
#[derive(Default)]
struct Bunk {
    asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

// === impl Bunks ===

impl Bunks {
    pub(super) fn new(num_workers: usize) -> Self {
        Self((0..num_workers).map(|_| Bunk::default()).collect())
    }

    /// Sleep as worker `thread` until `is_time`. Whoever makes it time does so with an operation of sequential
    /// consistency and calls [`wake`](Self::wake) afterwards; `is_time` must load with the same order.
    pub(super) fn sleep(&self, thread: usize, is_time: impl Fn() -> bool) {
        let bunk = &self.0[thread - 1];
        bunk.thread.get_or_init(thread::current);
        loop {
            // Either the waker sees that this thread is asleep, or this thread sees that it is time.
            bunk.asleep.store(true, Ordering::SeqCst);
            if is_time() {
                break bunk.asleep.store(false, Ordering::Relaxed);
            }
            thread::park();
            if is_time() {
                break bunk.asleep.store(false, Ordering::Relaxed);
            }
        }
    }

    /// As thread `thread`, wake those that are one's own to wake among the first `num_threads`.
    pub(super) fn wake(&self, thread: usize, num_threads: usize) {
        for bunk in children(thread, num_threads).map(|child| &self.0[child - 1]) {
            if bunk.asleep.load(Ordering::SeqCst)
                && bunk.asleep.swap(false, Ordering::SeqCst)
                && let Some(thread) = bunk.thread.get()
            {
                thread.unpark();
            }
        }
    }
}

/// The threads that `thread` wakes. All of the first `num_threads` are woken by those before them.
fn children(thread: usize, num_threads: usize) -> std::ops::Range<usize> {
    (2 * thread + 1).min(num_threads)..(2 * thread + 3).min(num_threads)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn everyone_is_woken_once() {
        for num_threads in 1..70 {
            let woken: Vec<usize> =
                (0..num_threads).flat_map(|thread| children(thread, num_threads)).collect();
            assert_eq!(woken, (1..num_threads).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_whole_tree_wakes_from_its_root() {
        let num_threads = 20;
        let bunks = Arc::new(Bunks::new(num_threads - 1));
        let (time, awake) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (1..num_threads)
            .map(|worker| {
                let (bunks, time, awake) = (Arc::clone(&bunks), Arc::clone(&time), Arc::clone(&awake));
                thread::spawn(move || {
                    for round in 1..=200 {
                        bunks.sleep(worker, || time.load(Ordering::SeqCst) >= round);
                        bunks.wake(worker, num_threads);
                        awake.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for round in 1..=200 {
            time.store(round, Ordering::SeqCst);
            bunks.wake(0, num_threads);
            while awake.load(Ordering::SeqCst) < round * (num_threads - 1) {
                thread::yield_now();
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

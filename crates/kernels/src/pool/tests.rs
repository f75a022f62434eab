//! Every chunk runs once, panics come back as errors, and callers share the pool.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;

use super::binding::bind;
use super::*;

fn counts(num_chunks: usize) -> Vec<usize> {
    let counters: Vec<AtomicUsize> = (0..num_chunks).map(|_| AtomicUsize::new(0)).collect();
    parallel_for(num_chunks, &|chunk| {
        counters[chunk].fetch_add(1, Ordering::Relaxed);
    })
    .unwrap();
    counters.into_iter().map(AtomicUsize::into_inner).collect()
}

#[test]
fn every_chunk_runs_once_at_any_number_of_threads() {
    for threads in [1, 2, 3, 8, 1, 5] {
        set_num_threads(threads);
        for chunks in [0, 1, 2, 3, 7, 100, 1_000] {
            assert!(counts(chunks).iter().all(|n| *n == 1), "{threads} threads, {chunks} chunks");
        }
    }
}

#[test]
fn many_short_regions_neither_hang_nor_lose_chunks() {
    set_num_threads(4);
    for round in 0..20_000 {
        let total = AtomicUsize::new(0);
        parallel_for(5, &|chunk| {
            total.fetch_add(chunk + 1, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(total.into_inner(), 15, "round {round}");
    }
}

#[test]
fn a_panic_is_an_error_and_the_pool_goes_on() {
    set_num_threads(4);
    for bad in [0, 13, 63] {
        let outcome = parallel_for(64, &|chunk| assert_ne!(chunk, bad, "chunk of bad luck"));
        let Err(KernelError::Panicked(message)) = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("bad luck"), "{message}");
        assert!(counts(64).iter().all(|n| *n == 1));
    }
}

#[test]
fn a_panic_of_a_lone_chunk_is_an_error() {
    let outcome = parallel_for(1, &|_| panic!("alone"));
    assert!(matches!(outcome, Err(KernelError::Panicked(message)) if message == "alone"));
}

#[test]
fn nested_regions_run_inline() {
    set_num_threads(3);
    let total = AtomicUsize::new(0);
    parallel_for(8, &|_| {
        parallel_for(8, &|_| {
            total.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(total.into_inner(), 64);
}

#[test]
fn callers_on_many_threads_take_turns() {
    set_num_threads(3);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..500 {
                    assert!(counts(9).iter().all(|n| *n == 1));
                }
            });
        }
    });
}

/// The threads that took part in some regions of many chunks.
fn participants() -> HashSet<ThreadId> {
    let seen = Mutex::new(HashSet::new());
    for _ in 0..300 {
        parallel_for(64, &|_| {
            seen.lock().unwrap().insert(std::thread::current().id());
            std::thread::yield_now();
        })
        .unwrap();
    }
    seen.into_inner().unwrap()
}

#[test]
fn a_step_has_as_many_threads_as_it_may() {
    set_num_threads(6);
    for limit in [1, 2, 3] {
        let step = begin_step(Some(limit));
        assert_eq!(num_threads(), limit);
        let inner = begin_step(None);
        assert_eq!(num_threads(), 6);
        drop(inner);
        let threads = participants();
        assert!(threads.len() <= limit, "{limit}: {threads:?}");
        assert!(threads.contains(&std::thread::current().id()) && (limit == 1 || threads.len() > 1));
        drop(step);
        assert_eq!(num_threads(), 6);
    }
    assert!(participants().len() > 3);
}

#[test]
fn a_step_ends_however_it_is_left() {
    let steps = || Pool::global().num_steps.load(Ordering::Relaxed);
    let before = steps();
    let left = std::panic::catch_unwind(|| {
        let _step = begin_step(Some(1));
        panic!("in the middle of a step");
    });
    assert!(left.is_err());
    assert_eq!((steps(), limit()), (before, usize::MAX));
}

#[test]
fn resizing_and_steps_of_two_callers_lose_no_chunk() {
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..2)
            .map(|caller| {
                scope.spawn(move || {
                    for round in 0..3_000 {
                        let _step = (round % 3 > 0).then(|| begin_step(Some(1 + (round + caller) % 4)));
                        for chunks in [2, 7, 33] {
                            assert!(counts(chunks).iter().all(|n| *n == 1), "round {round}");
                        }
                        if round % 500 == 0 {
                            // Long enough for every worker to fall asleep.
                            std::thread::sleep(std::time::Duration::from_millis(2));
                        }
                    }
                })
            })
            .collect();
        let mut size = 0;
        while callers.iter().any(|caller| !caller.is_finished()) {
            size = size % 9 + 1;
            set_num_threads(size);
            std::thread::yield_now();
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn bound_threads_have_a_core_each_and_are_let_go_again() {
    let cpus_of_all = || {
        let seen = Mutex::new(HashSet::new());
        for _ in 0..10 {
            parallel_for(64, &|_| {
                let cpus = std::thread::available_parallelism().map_or(0, usize::from);
                seen.lock().unwrap().insert((std::thread::current().id(), cpus));
                std::thread::yield_now();
            })
            .unwrap();
        }
        seen.into_inner().unwrap()
    };
    let threads = topology().cores.len();
    let options = ComputeOptions { threads: Some(threads), pinning: Pinning::On, engines: 1 };
    let report = configure_compute(&options);
    if threads == 0 || report.binding != Binding::Cores {
        return;
    }
    std::thread::spawn(move || {
        let step = begin_step(None);
        assert!(cpus_of_all().iter().all(|(_, cpus)| *cpus == 1), "workers and the caller are bound");
        drop(step);
    })
    .join()
    .unwrap();
    let step = begin_step(None);
    assert!(cpus_of_all().iter().all(|(_, cpus)| *cpus == 1), "the first core is free again");
    let second = std::thread::scope(|scope| {
        let take = || {
            bind(&topology().allowed).unwrap();
            let _step = begin_step(None);
            std::thread::available_parallelism().map_or(0, usize::from)
        };
        scope.spawn(take).join().unwrap()
    });
    assert_eq!(second, topology().usable, "the first core is taken");
    drop(step);
    let report = configure_compute(&ComputeOptions { pinning: Pinning::Off, ..options });
    assert!(matches!(report.binding, Binding::Free { .. }));
    let _step = begin_step(None);
    assert!(cpus_of_all().iter().all(|(_, cpus)| *cpus == topology().usable));
}

#[test]
fn a_report_says_what_there_is() {
    let report = configure_compute(&ComputeOptions { threads: Some(3), ..ComputeOptions::default() });
    assert_eq!((report.wanted, report.threads, report.usable_cpus), (3, 3, topology().usable));
    let report = configure_compute(&ComputeOptions::default());
    assert_eq!(report.threads, default_num_threads());
}

//! Every chunk runs once, panics come back as errors, and callers share the pool.

use std::sync::atomic::{AtomicUsize, Ordering};

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

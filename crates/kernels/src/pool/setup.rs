//! How the pool is set up when a process starts, and what came of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::binding::{Binding, Pinning, bind, choose, try_all};
use super::{MAX_THREADS, Pool, lock};
use crate::numa::{Placement, placement};
use crate::topology::topology;

/// How a process computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ComputeOptions {
    /// Threads, those that call regions included: an engine and its workers. `None` is [`default_num_threads`].
    pub threads: Option<usize>,
    /// Whether they are bound to cores.
    pub pinning: Pinning,
    /// Engines that will run steps.
    pub engines: usize,
}

/// What came of [`ComputeOptions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeReport {
    /// Threads that were asked for.
    pub wanted: usize,
    /// Threads there are: fewer than wanted where the system gave no more.
    pub threads: usize,
    /// CPUs that this process has time for: those of its affinity mask, or its quota where that is smaller.
    pub usable_cpus: usize,
    /// Where the threads run.
    pub binding: Binding,
    /// Where weights and caches lie.
    pub placement: Placement,
}

/// Which thread runs on which CPU.
#[derive(Default)]
pub(super) struct Plan {
    /// 0 while no thread has ever been bound.
    version: AtomicUsize,
    /// The CPU of each thread; threads beyond the end run anywhere.
    cpus: Mutex<Vec<usize>>,
}

/// Set up the threads that kernels run on. Meant for the start of a process; later calls change what can be changed.
pub fn configure_compute(options: &ComputeOptions) -> ComputeReport {
    let pool = Pool::global();
    let wanted = options.threads.unwrap_or_else(default_num_threads).clamp(1, MAX_THREADS);
    // The plan first: new threads take their place at once.
    let chosen = choose(options.pinning, wanted, options.engines, topology()).map_err(str::to_owned);
    let chosen = chosen.and_then(|cpus| match try_all(&cpus, &topology().allowed) {
        Ok(()) => Ok(cpus),
        Err(error) => Err(format!("the system refused: {error}")),
    });
    let binding = match chosen {
        Ok(cpus) => {
            pool.plan.set(cpus);
            Binding::Cores
        }
        Err(reason) => {
            pool.plan.set(Vec::new());
            Binding::Free { reason }
        }
    };
    pool.resize(wanted);
    ComputeReport {
        wanted,
        threads: pool.num_threads(),
        usable_cpus: topology().usable,
        binding,
        placement: placement(),
    }
}

/// The physical cores that this process may run on, or the CPU limit of its control group where that is smaller.
#[must_use]
pub fn default_num_threads() -> usize {
    topology().default_threads().clamp(1, MAX_THREADS)
}

/// CPUs that this process has time for: those of its affinity mask, or its quota where that is smaller.
#[must_use]
pub fn usable_cpus() -> usize {
    topology().usable
}

// === impl Plan ===

impl Plan {
    pub(super) fn version(&self) -> usize {
        self.version.load(Ordering::Relaxed)
    }

    /// The CPU of each thread; empty where they run anywhere.
    pub(super) fn cpus(&self) -> Vec<usize> {
        lock(&self.cpus).clone()
    }

    pub(super) fn set(&self, cpus: Vec<usize>) {
        let mut now = lock(&self.cpus);
        if *now != cpus {
            *now = cpus;
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bind the calling thread, which is thread `thread` of the pool. It was tried before; where the system has
    /// changed its mind, the thread runs anywhere, which is right if slower.
    pub(super) fn apply(&self, thread: usize) {
        let cpu = lock(&self.cpus).get(thread).copied();
        let _ = match cpu {
            Some(cpu) => bind(&[cpu]),
            None => bind(&topology().allowed),
        };
    }
}

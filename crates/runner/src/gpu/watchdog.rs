//! Sees to it that no rank waits for ever for one that is gone, or that never comes.
//!
//! A device that waits for another can not be told to stop by whoever waits for it. A thread looks at the group of ranks: when that is
//! broken, for whatever reason, devices are let go. It breaks the group itself when links report an error, or a step takes too long.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vlinders_comm::Communicator;
use vlinders_kernels::gpu::GpuGroup;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// The longest that a step of a device may take: some twenty times the largest step of the largest models.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Watches over the devices of one group, from one rank.
pub(crate) struct Watchdog {
    watched: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

struct Watched {
    communicator: Arc<dyn Communicator>,
    gpus: Arc<GpuGroup>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// When the step that is under way has begun.
    since: Option<Instant>,
    has_ended: bool,
}

// === impl Watchdog ===

impl Watchdog {
    /// Watch from now on. Without `step_timeout` steps may take for ever.
    pub(crate) fn start(
        communicator: Arc<dyn Communicator>,
        gpus: Arc<GpuGroup>,
        step_timeout: Option<Duration>,
    ) -> std::io::Result<Self> {
        let watched = Watched { communicator, gpus, state: Mutex::default(), ended: Condvar::new() };
        let watched = Arc::new(watched);
        let own = Arc::clone(&watched);
        let watch = move || own.watch(step_timeout.unwrap_or(Duration::MAX));
        let thread = std::thread::Builder::new().name("gpu-watchdog".to_owned()).spawn(watch)?;
        Ok(Self { watched, thread: Some(thread) })
    }

    /// A step begins.
    pub(crate) fn begin(&self) {
        self.watched.state().since = Some(Instant::now());
    }

    /// It is over: the error is why its results are not to be used.
    pub(crate) fn end(&self) -> Result<(), String> {
        self.watched.state().since = None;
        self.watched.communicator.broken().map_or(Ok(()), Err)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watched.state().has_ended = true;
        self.watched.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not fail.
            let _ = thread.join();
        }
    }
}

// === impl Watched ===

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, step_timeout: Duration) {
        let rank = self.communicator.rank();
        let mut state = self.state();
        loop {
            if state.since.is_some_and(|since| since.elapsed() > step_timeout) {
                self.communicator.leave(&format!("rank {rank}: a step has taken more than {step_timeout:?}"));
            } else if let Err(error) = self.gpus.check() {
                self.communicator.leave(&format!("rank {rank}: {error}"));
            }
            if self.communicator.broken().is_some() {
                self.gpus.abort();
                return;
            }
            if state.has_ended {
                return;
            }
            state = self.ended.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests {
    use candle_core::DType;
    use vlinders_comm::Threads;
    use vlinders_device::Gpu;
    use vlinders_kernels::gpu::{Peers, emulated_device};

    use super::*;

    /// A sum for which rank 1 does `instead`; what rank 0 gets to hear.
    fn without_rank_1(step_timeout: Option<Duration>, instead: impl FnOnce(&dyn Communicator)) -> String {
        let group: Vec<Arc<dyn Communicator>> =
            Threads::group(2).into_iter().map(|rank| Arc::new(rank) as Arc<dyn Communicator>).collect();
        let peers = Peers::new(2).unwrap();
        let gpus: Vec<Gpu> = (0..2).map(|_| emulated_device().unwrap()).collect();
        for (rank, gpu) in gpus.iter().enumerate() {
            peers.bring(gpu, rank).unwrap();
        }
        let own = Arc::new(GpuGroup::Peers(peers.join(&gpus[0], 0).unwrap().unwrap()));
        let watchdog = Watchdog::start(Arc::clone(&group[0]), Arc::clone(&own), step_timeout).unwrap();
        watchdog.begin();
        let sum = own.all_reduce(&gpus[0].empty(&[1, 8], DType::F32).unwrap()).unwrap();
        instead(&*group[1]);
        sum.to_cpu().unwrap();
        watchdog.end().unwrap_err()
    }

    #[test]
    fn devices_do_not_wait_for_a_rank_that_is_gone() {
        assert_eq!(
            without_rank_1(None, |rank| rank.leave("rank 1 has no more memory")),
            "rank 1 has no more memory"
        );
    }

    #[test]
    fn devices_do_not_wait_for_ever() {
        let brief = Duration::from_millis(100);
        assert_eq!(without_rank_1(Some(brief), |_| ()), "rank 0: a step has taken more than 100ms");
    }

    #[test]
    fn a_group_that_works_is_left_alone() {
        let group = Threads::group(2);
        let peers = Peers::new(2).unwrap();
        let work = |communicator: Threads| {
            let gpu = emulated_device().unwrap();
            let rank = communicator.rank();
            let communicator: Arc<dyn Communicator> = Arc::new(communicator);
            peers.bring(&gpu, rank).unwrap();
            communicator.barrier().unwrap();
            let own = Arc::new(GpuGroup::Peers(peers.join(&gpu, rank).unwrap().unwrap()));
            let watchdog = Watchdog::start(Arc::clone(&communicator), Arc::clone(&own), Some(STEP_TIMEOUT));
            let watchdog = watchdog.unwrap();
            watchdog.begin();
            let x = gpu.empty(&[1, 4], DType::F32).unwrap();
            x.write(&candle_core::Tensor::new(&[[1f32, 2.0, 3.0, 4.0]], &candle_core::Device::Cpu).unwrap())
                .unwrap();
            let sum = own.all_reduce(&x).unwrap().to_cpu().unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(sum, [[2.0, 4.0, 6.0, 8.0]]);
            assert_eq!(watchdog.end(), Ok(()));
            // Nobody leaves before the other has asked.
            communicator.barrier().unwrap();
        };
        std::thread::scope(|scope| {
            for communicator in group {
                scope.spawn(|| work(communicator));
            }
        });
    }
}

//! Loads the ranks of a model as threads of this process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use vlinders_comm::{Communicator as _, Threads};
use vlinders_kernels::gpu::Peers;
use vlinders_kernels::{Team, split_threads};

use crate::load::Rank;
use crate::local::{Compute, on_threads_of_step};
use crate::{LoadOptions, LoadPhase, LoadProgress, LoadedModel, ModelFiles, RunnerError};

/// Load a model on as many ranks as the options say. This thread is the first of them until it is loaded.
pub(crate) fn load(
    files: &ModelFiles,
    options: &LoadOptions,
    progress: &dyn LoadProgress,
) -> Result<LoadedModel, RunnerError> {
    let ranks = options.tensor_parallel_size;
    let tally: Arc<[Tally]> = (0..ranks).map(|_| Tally::default()).collect();
    let peers = Peers::new(ranks);
    let mut group = Threads::group(ranks).into_iter().zip(split_threads(ranks, options.num_threads));
    let rank = |(communicator, team): (Threads, Team)| Rank {
        index_here: communicator.rank(),
        communicator: Arc::new(communicator.with_threads(on_threads_of_step)),
        compute: Compute::Team(team),
        ranks_here: ranks,
        peers: peers.clone(),
    };
    let Some(first) = group.next().map(rank) else {
        return Err(RunnerError::Thread(io::ErrorKind::InvalidInput.into()));
    };
    let spawn = |(number, member): (usize, (Threads, Team))| {
        let counted = Counted { tally: Arc::clone(&tally), rank: number + 1, shown: None };
        start_follower(rank(member), files.clone(), options.clone(), counted)
    };
    let followers = group.enumerate().map(spawn).collect::<Result<Vec<_>, _>>()?;
    let counted = Counted { tally, rank: 0, shown: Some(progress) };
    Ok(first.load(files, options, &counted)?.lead(followers))
}

/// Load a rank on a thread of its own, which then follows the first.
fn start_follower(
    rank: Rank,
    files: ModelFiles,
    options: LoadOptions,
    progress: Counted<'static>,
) -> Result<JoinHandle<()>, RunnerError> {
    let number = rank.communicator.rank();
    let work = move || {
        let loaded = rank.load(&files, &options, &progress).map_err(|error| error.to_string());
        let ended = loaded.and_then(|loaded| loaded.follow().run().map_err(|error| error.to_string()));
        if let Err(error) = ended {
            tracing::error!(rank = number, error, "a rank has ended");
        }
    };
    Builder::new().name(format!("rank-{number}")).spawn(work).map_err(RunnerError::Thread)
}

/// Bytes that one rank has loaded, and is to load.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    total: AtomicU64,
}

/// Progress of one rank; that of the first shows the sum over all.
struct Counted<'a> {
    tally: Arc<[Tally]>,
    rank: usize,
    shown: Option<&'a dyn LoadProgress>,
}

impl LoadProgress for Counted<'_> {
    fn phase(&self, phase: LoadPhase) {
        if let Some(shown) = self.shown {
            shown.phase(phase);
        }
    }

    fn bytes(&self, done: u64, total: u64) {
        if let Some(own) = self.tally.get(self.rank) {
            own.done.fetch_max(done, Ordering::Relaxed);
            own.total.store(total, Ordering::Relaxed);
        }
        if let Some(shown) = self.shown {
            let sum =
                |of: fn(&Tally) -> &AtomicU64| self.tally.iter().map(|t| of(t).load(Ordering::Relaxed)).sum();
            shown.bytes(sum(|tally| &tally.done), sum(|tally| &tally.total));
        }
    }

    fn graphs(&self, done: usize, total: usize) {
        if let Some(shown) = self.shown {
            shown.graphs(done, total);
        }
    }
}

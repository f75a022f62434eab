//! Loads one rank of a model whose ranks are processes.

use std::sync::Arc;

use vlinders_comm::{Communicator, Tcp};
use vlinders_kernels::split_threads;

use crate::load::Rank;
use crate::local::{Compute, on_threads_of_step};
use crate::{Follower, LoadOptions, LoadProgress, LoadedModel, ModelFiles, RunnerError};

/// What a process of a group runs.
pub enum Member {
    /// Rank 0: it has the requests.
    Leader(Box<LoadedModel>),
    /// Any other rank.
    Follower(Box<Follower>),
}

/// Load the share of a model that the rank of `group` has. [`LoadOptions::tensor_parallel_size`] does not count: there are as many
/// ranks as the group has.
///
/// # Errors
/// As [`load`](crate::load()), on this rank or on another one.
pub fn load_member(
    files: &ModelFiles,
    options: &LoadOptions,
    group: Tcp,
    progress: &dyn LoadProgress,
) -> Result<Member, RunnerError> {
    options.validate()?;
    let here = group.ranks_here();
    let place = here.iter().position(|rank| *rank == group.rank()).unwrap_or(0);
    // Ranks of one machine would meet on its first cores.
    let teams = if here.len() > 1 { split_threads(here.len(), options.num_threads) } else { Vec::new() };
    let compute = match teams.get(place) {
        Some(team) => Compute::Team(*team),
        None => Compute::Shared(options.num_threads),
    };
    let is_first = group.rank() == 0;
    let communicator = Arc::new(group.with_threads(on_threads_of_step));
    let loaded = Rank { communicator, compute, ranks_here: here.len(), index_here: place, peers: None }
        .load(files, options, progress)?;
    Ok(if is_first {
        Member::Leader(Box::new(loaded.lead(Vec::new())))
    } else {
        Member::Follower(Box::new(loaded.follow()))
    })
}

//! What every process of a group does first: find the others, and start the ranks that it is beside its first one.

use std::thread::JoinHandle;

use anyhow::{Context as _, bail};
use vlinders_runner::{GroupOptions, LoadOptions, Member, ModelFiles, NoProgress, Tcp, load_member};

/// Wait for the other ranks, and say so.
pub(super) fn join(options: &GroupOptions) -> anyhow::Result<Tcp> {
    let GroupOptions { rank, size, leader, .. } = options;
    if options.secret.is_none() {
        tracing::warn!("the group has no secret: whoever reaches a rank may join it");
    }
    tracing::info!(rank, ranks = size, leader, "joining the other ranks of the model");
    let group =
        Tcp::join(options).with_context(|| format!("rank {rank} of {size} can not join its group"))?;
    tracing::info!(rank, here = ?group.ranks_here(), "all ranks are connected");
    Ok(group)
}

/// Let threads of their own be the ranks of this process beside its first one. Each ends with the group.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start_others(
    others: &[GroupOptions],
    files: &ModelFiles,
    options: &LoadOptions,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let start = |rank: &GroupOptions| {
        let name = format!("rank-{}", rank.rank);
        let (rank, files, options) = (rank.clone(), files.clone(), options.clone());
        let work = move || {
            if let Err(error) = follow(&rank, &files, &options) {
                tracing::error!(rank = rank.rank, error = format!("{error:#}"), "a rank has ended");
            }
        };
        std::thread::Builder::new().name(name).spawn(work).context("cannot start a thread for a rank")
    };
    others.iter().map(start).collect()
}

fn follow(rank: &GroupOptions, files: &ModelFiles, options: &LoadOptions) -> anyhow::Result<()> {
    let Member::Follower(follower) = load_member(files, options, join(rank)?, &NoProgress)? else {
        bail!("rank {} can not lead", rank.rank);
    };
    Ok(follower.run()?)
}

//! What every process of a group does first: find the others.

use anyhow::Context as _;
use vlinders_runner::{GroupOptions, Tcp};

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

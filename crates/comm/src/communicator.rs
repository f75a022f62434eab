//! What a layer may ask of the other ranks.

use candle_core::Tensor;

/// A group of ranks that compute one model together.
///
/// Every call is collective: all ranks make it, in the same order, with tensors of the same shape and
/// dtype, and each returns when its own part is done. Results are the same bits on every rank.
pub trait Communicator: Send + Sync {
    /// This rank, `0..size`.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// The sum of `x` over all ranks, added in the order of the ranks.
    ///
    /// # Errors
    /// When the group is broken; the step is lost and so is the group.
    fn all_reduce(&self, x: &Tensor) -> Result<Tensor, CommError>;

    /// The `x` of all ranks, joined along the last dimension in the order of the ranks.
    ///
    /// # Errors
    /// When the group is broken.
    fn all_gather(&self, x: &Tensor) -> Result<Tensor, CommError>;

    /// The `x` of rank `root`.
    ///
    /// # Errors
    /// When the group is broken, or there is no rank `root`.
    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor, CommError>;

    /// Returns when all ranks have called it.
    ///
    /// # Errors
    /// When the group is broken.
    fn barrier(&self) -> Result<(), CommError>;
}

/// A collective that can not be completed.
#[derive(Debug, thiserror::Error)]
pub enum CommError {
    /// The call names a rank that the group lacks.
    #[error("there is no rank {rank} in a group of {size}")]
    NoSuchRank {
        /// The rank asked for.
        rank: usize,
        /// Ranks in the group.
        size: usize,
    },
}

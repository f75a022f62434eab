//! What a model may ask of its other ranks.

use candle_core::Tensor;

use crate::call::Call;

/// A group of ranks that compute one model together.
///
/// Every call is collective: all ranks make it, in the same order, with tensors of the same shape and
/// dtype, and each returns when its own part is done. Results are the same bits on every rank. A rank that
/// makes another call than the others is an error on all of them.
pub trait Communicator: Send + Sync {
    /// This rank, `0..size`.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// The sum of `x` over all ranks, added in the order of the ranks; `x` is f32.
    ///
    /// # Errors
    /// When the group is broken; the step is lost and so is the group.
    fn all_reduce(&self, x: &Tensor) -> Result<Tensor, CommError>;

    /// The `x` of all ranks, joined along the last dimension in the order of the ranks. That dimension may differ between
    /// ranks.
    ///
    /// # Errors
    /// When the group is broken.
    fn all_gather(&self, x: &Tensor) -> Result<Tensor, CommError>;

    /// As [`all_gather`](Self::all_gather), on rank `root` alone; `None` on the others, which do not wait for it.
    ///
    /// # Errors
    /// When the group is broken, or there is no rank `root`.
    fn gather(&self, x: &Tensor, root: usize) -> Result<Option<Tensor>, CommError>;

    /// The `x` of rank `root`.
    ///
    /// # Errors
    /// When the group is broken, or there is no rank `root`.
    fn broadcast(&self, x: &Tensor, root: usize) -> Result<Tensor, CommError>;

    /// Give `bytes` of rank `root` to all; on the others they are replaced, whatever their number. The others may wait for as
    /// long as `root` has nothing to say.
    ///
    /// # Errors
    /// When the group is broken, or there is no rank `root`.
    fn broadcast_bytes(&self, bytes: &mut Vec<u8>, root: usize) -> Result<(), CommError>;

    /// Returns when all ranks have called it.
    ///
    /// # Errors
    /// When the group is broken.
    fn barrier(&self) -> Result<(), CommError>;

    /// What this rank takes the next calls to belong to, such as a hash of the plan of a step. No message; ranks that
    /// disagree find out at their next call.
    fn tag(&self, tag: u64);

    /// Why the group is broken, if it is. Does not wait.
    fn broken(&self) -> Option<String>;

    /// Break the group: every call that any rank makes from now on fails for this reason.
    fn leave(&self, reason: &str);
}

/// A collective that can not be completed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommError {
    /// The call names a rank that the group lacks.
    #[error("there is no rank {rank} in a group of {size}")]
    NoSuchRank {
        /// The rank asked for.
        rank: usize,
        /// Ranks in the group.
        size: usize,
    },
    /// An [`Outline`](crate::Outline) was asked to communicate.
    #[error("this rank has not joined a group")]
    NotJoined,
    /// A rank has left, and with it the group has ended.
    #[error("the ranks of this model no longer work together: {0}")]
    Broken(String),
    /// Ranks make different calls, so what they compute can not fit together.
    #[error("rank {rank} is at {theirs}, this rank at {ours}: they do not do the same work")]
    Diverged {
        /// The other rank.
        rank: usize,
        /// Its call.
        theirs: String,
        /// The call of this rank.
        ours: String,
    },
    /// A tensor that can not be sent, or made of what was received.
    #[error("{0}")]
    Tensor(String),
}

// === impl CommError ===

impl CommError {
    pub(crate) fn diverged(rank: usize, theirs: Call, ours: Call) -> Self {
        Self::Diverged { rank, theirs: theirs.to_string(), ours: ours.to_string() }
    }

    pub(crate) fn check_root(root: usize, size: usize) -> Result<(), Self> {
        if root < size { Ok(()) } else { Err(Self::NoSuchRank { rank: root, size }) }
    }
}

impl From<candle_core::Error> for CommError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.to_string())
    }
}

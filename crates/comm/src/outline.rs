//! A rank that only knows which one it is: enough to plan what it loads.

use candle_core::Tensor;

use crate::{CommError, Communicator};

/// Rank `rank` of `size`, before it has joined the others. Every collective is an error.
#[derive(Debug, Clone, Copy)]
pub struct Outline {
    rank: usize,
    size: usize,
}

// === impl Outline ===

impl Outline {
    /// Rank `rank` of `size`.
    ///
    /// # Errors
    /// When there is no such rank.
    pub fn new(rank: usize, size: usize) -> Result<Self, CommError> {
        CommError::check_root(rank, size)?;
        Ok(Self { rank, size })
    }
}

impl Communicator for Outline {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, _: &Tensor) -> Result<Tensor, CommError> {
        Err(CommError::NotJoined)
    }

    fn all_gather(&self, _: &Tensor) -> Result<Tensor, CommError> {
        Err(CommError::NotJoined)
    }

    fn gather(&self, _: &Tensor, _: usize) -> Result<Option<Tensor>, CommError> {
        Err(CommError::NotJoined)
    }

    fn broadcast(&self, _: &Tensor, _: usize) -> Result<Tensor, CommError> {
        Err(CommError::NotJoined)
    }

    fn broadcast_bytes(&self, _: &mut Vec<u8>, _: usize) -> Result<(), CommError> {
        Err(CommError::NotJoined)
    }

    fn barrier(&self) -> Result<(), CommError> {
        Err(CommError::NotJoined)
    }

    fn tag(&self, _: u64) {}

    fn broken(&self) -> Option<String> {
        None
    }

    fn leave(&self, _: &str) {}
}

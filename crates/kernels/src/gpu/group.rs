//! The GPUs of the ranks of a model: how sums and logits get from one to the other.
//!
//! GPUs of one process that reach each other's memory exchange data inside of kernels ([`PeerGroup`]); others send it over
//! [`GpuLinks`]. Either way a sum is added in the order of ranks, in f32, and rounded once, so it has the same bits
//! whatever carries it and however many tokens a step has.

mod linked;
mod peers;
#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;

use vlinders_device::{GpuLinks, GpuTensor};

pub use self::peers::{PeerGroup, Peers};
use crate::error::{KernelError, Result};

/// The GPU of one rank and its way to the others.
#[derive(Debug)]
pub enum GpuGroup {
    /// They reach each other's memory.
    Peers(PeerGroup),
    /// They send.
    Links(GpuLinks),
}

// === impl GpuGroup ===

impl GpuGroup {
    /// The sum of `x` over all ranks, in the type of `x`. Nobody waits but the devices.
    ///
    /// # Errors
    /// Types that no kernel has, or a failing device.
    pub fn all_reduce(&self, x: &GpuTensor) -> Result<GpuTensor> {
        match self {
            Self::Peers(peers) => peers.all_reduce(x),
            Self::Links(links) => linked::all_reduce(links, x),
        }
    }

    /// `x` `[rows, own columns]` in f32 of all ranks, beside each other in the order of ranks, on rank 0 alone. `columns` are those of
    /// each rank.
    ///
    /// # Errors
    /// Shapes that do not fit, or a failing device.
    pub fn gather(&self, x: &GpuTensor, columns: &[usize]) -> Result<Option<GpuTensor>> {
        const OP: &str = "gather";
        let (rank, size) = match self {
            Self::Peers(peers) => (peers.rank(), peers.size()),
            Self::Links(links) => (links.rank(), links.size()),
        };
        let fits = matches!(x.dims(), [_, own] if columns.get(rank) == Some(own)) && columns.len() == size;
        if !fits || x.dtype() != candle_core::DType::F32 {
            let problem =
                format!("rank {rank} of {size} has {x:?}, the ranks have {columns:?} columns in f32");
            return Err(KernelError::shape(OP, problem));
        }
        match self {
            Self::Peers(peers) => peers.gather(x, columns),
            Self::Links(links) => linked::gather(links, x, columns),
        }
    }

    /// What has gone wrong on the way to other ranks.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Peers(_) => Ok(()),
            Self::Links(links) => Ok(links.check()?),
        }
    }

    /// Let no device wait for other ranks any more; what they compute from now on is undefined.
    pub fn abort(&self) {
        match self {
            Self::Peers(peers) => peers.abort(),
            Self::Links(links) => links.abort(),
        }
    }
}

/// From how many bytes on it is faster to add up slices than that everybody adds up everything: where what that saves on the way, at the
/// speed of NVLink, takes longer than meeting once more. With two ranks nothing is saved.
fn adds_by_slices(bytes: usize, ranks: usize) -> bool {
    const BYTES_PER_MEETING: usize = 3 << 19;
    ranks > 2 && bytes * (ranks - 1) * (ranks - 2) / ranks > BYTES_PER_MEETING
}

/// Sixteen-byte packs of a tensor that has nothing else.
fn packs(op: &'static str, x: &GpuTensor) -> Result<usize> {
    if !x.num_bytes().is_multiple_of(16) || !x.address().is_multiple_of(16) {
        return Err(KernelError::shape(op, format!("{x:?} is not made of sixteen-byte packs")));
    }
    Ok(x.num_bytes() / 16)
}

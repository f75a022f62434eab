//! What the GPU of one rank sends to those of others.

use std::ops::Range;

use crate::driver::{self, Parcel};
use crate::{DeviceError, Gpu, GpuTensor, Result};

/// The links of one rank to all others of its group, on whichever machine they are.
pub struct GpuLinks {
    gpu: Gpu,
    links: Box<dyn driver::Links>,
    rank: usize,
    size: usize,
}

/// A part of a tensor that is sent to a rank, or comes from it.
#[derive(Debug, Clone)]
pub struct Sent<'a> {
    /// The other rank.
    pub rank: usize,
    /// What it is a part of.
    pub tensor: &'a GpuTensor,
    /// Which bytes.
    pub bytes: Range<usize>,
}

// === impl GpuLinks ===

impl GpuLinks {
    /// What one rank makes up and all must be given to find each other.
    ///
    /// # Errors
    /// When the library that carries links is not there.
    pub fn fresh_id(gpu: &Gpu) -> Result<Vec<u8>> {
        gpu.driver().links_id()
    }

    /// Join the group of this id. Returns when all ranks have.
    ///
    /// # Errors
    /// When the library fails, or when `is_off` says that the others will not come.
    pub fn join(gpu: &Gpu, id: &[u8], rank: usize, size: usize, is_off: &dyn Fn() -> bool) -> Result<Self> {
        let links = gpu.driver().links(id, rank, size, is_off)?;
        Ok(Self { gpu: gpu.clone(), links, rank, size })
    }

    /// This rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Ranks of the group.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Send and receive, behind all that the device was asked for before. All ranks make this call, and what one sends the other
    /// receives.
    ///
    /// # Errors
    /// When a part is not in its tensor, a rank is none of the group, or the links fail.
    pub fn exchange(&self, sent: &[Sent<'_>], received: &[Sent<'_>]) -> Result<()> {
        let (sent, received) = (self.parcels(sent)?, self.parcels(received)?);
        if self.gpu.is_rehearsing() {
            return Ok(());
        }
        // SAFETY: the ranges are in their tensors, which stay until the stream is behind this.
        unsafe { self.links.exchange(&sent, &received) }
    }

    fn parcels(&self, parts: &[Sent<'_>]) -> Result<Vec<Parcel>> {
        let parcel = |part: &Sent<'_>| {
            let Range { start, end } = part.bytes;
            let fits = start <= end && end <= part.tensor.num_bytes();
            if !fits || part.rank >= self.size || part.rank == self.rank || !part.tensor.gpu().is(&self.gpu) {
                let (bytes, rank) = (&part.bytes, part.rank);
                let problem =
                    format!("bytes {bytes:?} of {:?} can not be exchanged with rank {rank}", part.tensor);
                return Err(DeviceError::Tensor(problem));
            }
            let address = part.tensor.address() + start as u64;
            Ok(Parcel { rank: part.rank, address, bytes: end - start })
        };
        parts.iter().map(parcel).collect()
    }

    /// What has gone wrong with them so far.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<()> {
        self.links.check()
    }

    /// Let nobody wait for other ranks any more. What was to be received is undefined, and nothing else can be exchanged.
    pub fn abort(&self) {
        self.links.abort();
    }
}

impl std::fmt::Debug for GpuLinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuLinks(rank {} of {})", self.rank, self.size)
    }
}

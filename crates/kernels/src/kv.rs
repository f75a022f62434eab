//! One layer's cache of keys and values, in blocks, in the order in which attention reads it.
//!
//! Positions of a block are taken sixteen at a time. Keys of such a group lie as `[head_dim][16 positions]`, so
//! that one query element meets sixteen positions in one load; values as `[head_dim / 16][16 positions][16]`,
//! so that one probability meets sixteen elements. Both are tiles of `head_dim * 16` numbers, with `head_dim`
//! padded to a multiple of sixteen: `[block][kv_head][group][tile]`. In a cache of eight bits each tile is followed by
//! the sixteen f32 scales of its positions.

mod dtype;
mod scale;
mod write;

use std::cell::UnsafeCell;

pub(crate) use self::dtype::with_kv_element;
pub(crate) use self::write::{HeadWriter, check_slots};
pub use self::{dtype::KvDtype, write::kv_write};
use crate::aligned::AlignedBuf;
use crate::element::{Element, LANES};
use crate::error::{KernelError, Result};

pub(crate) const OP: &str = "kv cache";

/// Keys and values of one layer for all sequences: `num_blocks` blocks of `block_size` positions.
///
/// Memory is interior: [`kv_write`] and [`paged_attention`](crate::paged_attention) both take `&KvLayer`. The
/// type can move to another thread but not be shared between threads, so a write never meets a read.
pub struct KvLayer {
    keys: UnsafeCell<AlignedBuf>,
    values: UnsafeCell<AlignedBuf>,
    shape: KvShape,
}

/// The sizes of a [`KvLayer`], and where things lie in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KvShape {
    pub(crate) dtype: KvDtype,
    pub(crate) num_blocks: usize,
    pub(crate) block_size: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

// === impl KvLayer ===

impl KvLayer {
    /// A cache of zeros.
    ///
    /// # Errors
    /// A size of zero, or no memory.
    pub fn new(
        dtype: KvDtype,
        num_blocks: usize,
        block_size: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<Self> {
        let shape = KvShape { dtype, num_blocks, block_size, kv_heads, head_dim };
        let bytes = shape.bytes_of_one()?;
        Ok(Self {
            keys: UnsafeCell::new(AlignedBuf::zeroed(bytes)?),
            values: UnsafeCell::new(AlignedBuf::zeroed(bytes)?),
            shape,
        })
    }

    /// Bytes that one block takes, keys and values together, scales and padding included: what a memory plan needs.
    ///
    /// # Errors
    /// A size of zero, or more bytes than can be counted.
    pub fn bytes_per_block(
        dtype: KvDtype,
        block_size: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<usize> {
        Ok(2 * KvShape { dtype, num_blocks: 1, block_size, kv_heads, head_dim }.bytes_of_one()?)
    }

    /// Blocks in the cache.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.shape.num_blocks
    }

    /// Positions in a block.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.shape.block_size
    }

    /// Heads of keys and values.
    #[must_use]
    pub fn kv_heads(&self) -> usize {
        self.shape.kv_heads
    }

    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.shape.head_dim
    }

    /// The stored dtype.
    #[must_use]
    pub fn dtype(&self) -> KvDtype {
        self.shape.dtype
    }

    /// Bytes held, keys and values together.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        // SAFETY: the type is not Sync, and no method keeps a reference into the cells.
        unsafe { (*self.keys.get()).len() + (*self.values.get()).len() }
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
    }

    /// First key and first value. Valid while `self` is borrowed and nothing is written.
    pub(crate) fn tiles<E: Element>(&self) -> (*const E, *const E) {
        // SAFETY: the type is not Sync, and no method keeps a reference into the cells.
        unsafe { ((*self.keys.get()).as_ptr().cast(), (*self.values.get()).as_ptr().cast()) }
    }

    /// As [`tiles`](Self::tiles), for writing: the caller must be sure that no other pointer into them is in use.
    pub(crate) fn tiles_mut<E: Element>(&self) -> (*mut E, *mut E) {
        // SAFETY: the type is not Sync, and no method keeps a reference into the cells.
        unsafe { ((*self.keys.get()).as_mut_ptr().cast(), (*self.values.get()).as_mut_ptr().cast()) }
    }
}

impl std::fmt::Debug for KvLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KvLayer").field(&self.shape).finish()
    }
}

// === impl KvShape ===

impl KvShape {
    /// Elements of a tile: sixteen positions of one head, without their scales.
    pub(crate) fn tile(&self) -> usize {
        self.head_dim.next_multiple_of(LANES) * LANES
    }

    /// Elements from one tile to the next, with the room that scales take.
    fn stride(&self) -> usize {
        self.tile() + self.dtype.scale_room()
    }

    /// Groups of sixteen positions in a block, the last one possibly not full.
    pub(crate) fn groups(&self) -> usize {
        self.block_size.div_ceil(LANES)
    }

    /// Where the tile of a group begins, in elements.
    pub(crate) fn tile_start(&self, block: usize, kv_head: usize, group: usize) -> usize {
        ((block * self.kv_heads + kv_head) * self.groups() + group) * self.stride()
    }

    /// Refuse a cache that holds nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { num_blocks, block_size, kv_heads, head_dim, .. } = *self;
        if [num_blocks, block_size, kv_heads, head_dim].contains(&0) {
            return Err(KernelError::shape(
                OP,
                format!("{num_blocks} blocks of [{block_size}, {kv_heads}, {head_dim}] hold nothing"),
            ));
        }
        Ok(())
    }

    /// Bytes of the keys alone.
    fn bytes_of_one(&self) -> Result<usize> {
        self.check()?;
        let Self { num_blocks, kv_heads, head_dim, .. } = *self;
        let row = LANES * self.dtype.width();
        let tile = head_dim.checked_next_multiple_of(LANES).and_then(|padded| padded.checked_mul(row));
        let tile = tile.and_then(|tile| tile.checked_add(self.dtype.scale_bytes())).unwrap_or(usize::MAX);
        let sizes = [num_blocks, kv_heads, self.groups(), tile];
        let bytes = sizes.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
        bytes.ok_or(KernelError::Memory { bytes: usize::MAX })
    }
}

#[cfg(test)]
mod tests;

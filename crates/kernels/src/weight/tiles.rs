//! Where the tiles of a weight lie: in memory of its own, in a file that is mapped, or in another weight.

use std::ops::Range;
use std::sync::Arc;

use super::PackedWeight;
use crate::aligned::{ALIGNMENT, AlignedBuf};
use crate::mapping::FileMapping;

/// Bytes that are only read from here on, aligned to a cache line.
pub(super) enum Tiles {
    Owned(AlignedBuf),
    Mapped(MappedBytes),
    Part(Arc<PackedWeight>, Range<usize>),
}

/// A run of bytes of a mapped file, which keeps the map alive.
pub(super) struct MappedBytes {
    file: Arc<FileMapping>,
    offset: usize,
    len: usize,
}

// === impl Tiles ===

impl Tiles {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(buf) => buf.as_slice(),
            Self::Mapped(mapped) => &mapped.file.as_slice()[mapped.offset..][..mapped.len],
            Self::Part(whole, bytes) => &whole.bytes()[bytes.clone()],
        }
    }
}

// === impl MappedBytes ===

impl MappedBytes {
    /// `len` bytes from `offset` on; `None` when they are not all in the file, or not aligned to a cache line.
    pub(super) fn new(file: &Arc<FileMapping>, offset: usize, len: usize) -> Option<Self> {
        let bytes = file.as_slice().get(offset..offset.checked_add(len)?)?;
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGNMENT);
        aligned.then(|| Self { file: Arc::clone(file), offset, len })
    }
}

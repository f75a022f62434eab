//! Rows into quantised tiles: as they are where the file has the same codes, else decoded and rounded.

use half::f16;

use super::BLOCK;
use super::codes::{Block, QuantTile};
use crate::stored::Stored;

/// Write one row into its lane of a tile. `numbers` is room for the row.
pub(crate) fn pack_row<Q: QuantTile>(
    tile: &mut [u8],
    lane: usize,
    stored: Stored,
    source: &[u8],
    numbers: &mut [f32],
) {
    if let Some(read) = Q::as_stored(stored) {
        for (block, source) in source.chunks_exact(stored.block_bytes()).enumerate() {
            Q::write(tile, block, lane, &read(source));
        }
        return;
    }
    stored.decode(source, numbers);
    for (block, numbers) in numbers.chunks(BLOCK).enumerate() {
        let mut whole = [0.0; BLOCK];
        whole[..numbers.len()].copy_from_slice(numbers);
        Q::write(tile, block, lane, &Q::round(&whole));
    }
}

/// A block of `Q8_0`.
pub(super) fn q8_0(bytes: &[u8]) -> Block {
    Block {
        scale: f16::from_le_bytes([bytes[0], bytes[1]]),
        codes: std::array::from_fn(|i| bytes[2 + i].cast_signed()),
    }
}

/// A block of `Q4_0`.
pub(super) fn q4_0(bytes: &[u8]) -> Block {
    let nibble = |i: usize| if i < 16 { bytes[2 + i] & 15 } else { bytes[2 + i - 16] >> 4 };
    Block {
        scale: f16::from_le_bytes([bytes[0], bytes[1]]),
        codes: std::array::from_fn(|i| nibble(i).cast_signed() - 8),
    }
}

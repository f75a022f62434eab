//! Rows into quantised tiles: as they are where the file has the same codes, else decoded and rounded.

use half::f16;

use super::BLOCK;
use super::codes::{Block, QuantTile};
use crate::simd::{Isa, Lanes, multiversion};
use crate::stored::Stored;

/// Write one row into its lane of a tile. `numbers` is room for the row.
pub(crate) fn pack_row<Q: QuantTile>(
    isa: Isa,
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
    // SAFETY: the instruction set is there.
    unsafe { round_row::<Q>(isa, numbers, tile, lane) };
}

/// Round a row into its lane, in plain Rust that the compiler makes vectors of.
#[inline(always)]
unsafe fn round_row_body<L: Lanes, Q: QuantTile>(numbers: &[f32], tile: &mut [u8], lane: usize) {
    for (block, numbers) in numbers.chunks(BLOCK).enumerate() {
        let mut whole = [0.0; BLOCK];
        whole[..numbers.len()].copy_from_slice(numbers);
        Q::write(tile, block, lane, &Q::round(&whole));
    }
}
multiversion! {
    unsafe fn round_row [Q: QuantTile] (numbers: &[f32], tile: &mut [u8], lane: usize) = round_row_body
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

//! Rows into quantised tiles: as they are where the file has the same codes, else decoded and rounded.

use half::f16;

use super::BLOCK;
use super::codes::{Block, QuantTile, with_tile};
use crate::error::{KernelError, Result};
use crate::format::Format;
use crate::pool::parallel_for;
use crate::simd::{Isa, Lanes, multiversion};
use crate::stored::Stored;
use crate::tensor::Shared;

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

/// Rows of `inn` numbers, encoded as `stored`, in the encoding of files that packs into `format` without a change: see
/// [`Format::stored`]. Packing the result gives the bits that packing the rows themselves would give.
///
/// # Errors
/// A format that is not quantised, or bytes that are not whole rows of whole blocks in both encodings.
pub fn round_rows(format: Format, stored: Stored, inn: usize, rows: &[u8]) -> Result<Vec<u8>> {
    const OP: &str = "rounding of rows";
    let sizes = stored.row_bytes(inn).zip(format.stored().row_bytes(inn)).filter(|(from, _)| *from > 0);
    let Some((from, to)) = sizes.filter(|(from, _)| rows.len().is_multiple_of(*from)) else {
        let problem = format!(
            "{} bytes are no whole rows of {inn} numbers in blocks, in {stored:?} and as {format}",
            rows.len()
        );
        return Err(KernelError::shape(OP, problem));
    };
    let count = rows.len() / from;
    let mut rounded = vec![0; count * to];
    let isa = Isa::detect();
    with_tile!(format, Q => {
        let target = Shared::new(rounded.as_mut_ptr());
        parallel_for(count, &|row| {
            // SAFETY: `rounded` has room for all rows and is borrowed mutably; this chunk alone touches row `row`.
            let to = unsafe { std::slice::from_raw_parts_mut(target.get().add(row * to), to) };
            encode_row::<Q>(isa, stored, &rows[row * from..][..from], inn, to);
        })?;
    }, _ => return Err(KernelError::shape(OP, format!("{format} has no blocks"))));
    Ok(rounded)
}

/// One row in the encoding of files.
fn encode_row<Q: QuantTile>(isa: Isa, stored: Stored, source: &[u8], inn: usize, to: &mut [u8]) {
    if Q::as_stored(stored).is_some() {
        to.copy_from_slice(source);
        return;
    }
    let mut numbers = vec![0.0; inn];
    stored.decode(source, &mut numbers);
    // SAFETY: the instruction set is there.
    unsafe { encode_numbers::<Q>(isa, &numbers, to) };
}

#[inline(always)]
unsafe fn encode_numbers_body<L: Lanes, Q: QuantTile>(numbers: &[f32], to: &mut [u8]) {
    let blocks = numbers.as_chunks::<BLOCK>().0.iter();
    for (numbers, to) in blocks.zip(to.chunks_exact_mut(2 + Q::STORED_CODE_BYTES)) {
        let block = Q::round(numbers);
        to[..2].copy_from_slice(&block.scale.to_le_bytes());
        Q::store_codes(&block.codes, &mut to[2..]);
    }
}
multiversion! {
    unsafe fn encode_numbers [Q: QuantTile] (numbers: &[f32], to: &mut [u8]) = encode_numbers_body
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

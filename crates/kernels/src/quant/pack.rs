//! Rows into quantised tiles, or into the encoding of files: as they are where the codes are the same, else decoded and
//! rounded.

use super::tile::{MAX_BYTES, MAX_LEN, QuantTile, with_tile};
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
    if stored == Q::STORED {
        for (index, block) in source.chunks_exact(stored.block_bytes()).enumerate() {
            Q::write(tile, index, lane, block);
        }
        return;
    }
    stored.decode(source, numbers);
    // SAFETY: the instruction set is there.
    unsafe { round_row::<Q>(isa, numbers, &mut |index, block| Q::write(tile, index, lane, block)) };
}

/// Row `lane` of a tile, as numbers.
pub(crate) fn unpack_row<Q: QuantTile>(tile: &[u8], lane: usize, numbers: &mut [f32]) {
    let (mut block, mut whole) = ([0; MAX_BYTES], [0.0; MAX_LEN]);
    let block = &mut block[..Q::STORED.block_bytes()];
    for (index, numbers) in numbers.chunks_mut(Q::LEN).enumerate() {
        Q::read(tile, index, lane, block);
        Q::STORED.decode(block, &mut whole[..Q::LEN]);
        numbers.copy_from_slice(&whole[..numbers.len()]);
    }
}

/// Give each block of a rounded row to `put`, with its index; zeros fill the last one.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn round_row_body<L: Lanes, Q: QuantTile>(numbers: &[f32], put: &mut dyn FnMut(usize, &[u8])) {
    let (mut block, mut whole) = ([0; MAX_BYTES], [0.0; MAX_LEN]);
    let block = &mut block[..Q::STORED.block_bytes()];
    for (index, numbers) in numbers.chunks(Q::LEN).enumerate() {
        let mut rounded = numbers;
        if numbers.len() < Q::LEN {
            whole[..numbers.len()].copy_from_slice(numbers);
            whole[numbers.len()..].fill(0.0);
            rounded = &whole[..Q::LEN];
        }
        // SAFETY: the caller's promise.
        unsafe { Q::round::<L>(rounded, block) };
        put(index, block);
    }
}
multiversion! {
    unsafe fn round_row [Q: QuantTile] (numbers: &[f32], put: &mut dyn FnMut(usize, &[u8])) = round_row_body
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
    if stored == Q::STORED {
        to.copy_from_slice(source);
        return;
    }
    let mut numbers = vec![0.0; inn];
    stored.decode(source, &mut numbers);
    let bytes = Q::STORED.block_bytes();
    let mut put = |index: usize, block: &[u8]| to[index * bytes..][..bytes].copy_from_slice(block);
    // SAFETY: the instruction set is there.
    unsafe { round_row::<Q>(isa, &numbers, &mut put) };
}

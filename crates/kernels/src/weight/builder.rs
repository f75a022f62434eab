//! Packing: rows as a checkpoint stores them, into tiles.

use std::ops::Range;

use half::f16;

use super::PackedWeight;
use super::tiles::Tiles;
use crate::aligned::AlignedBuf;
use crate::element::{Element, LANES, PairedBf16, with_weight_element};
use crate::error::{KernelError, Result};
use crate::format::Format;
use crate::pool::parallel_for;
use crate::quant::{pack_row, with_tile};
use crate::simd::Isa;
use crate::stored::Stored;
use crate::tensor::Shared;

const OP: &str = "packed weight";
/// Input features that one chunk transposes at a time: sixteen rows of them stay in the first-level cache.
const STRIP: usize = 256;

/// A [`PackedWeight`] while its rows arrive, in any order, each once.
pub struct PackedWeightBuilder {
    data: AlignedBuf,
    format: Format,
    out: usize,
    inn: usize,
    filled: Vec<bool>,
}

// === impl PackedWeightBuilder ===

impl PackedWeightBuilder {
    pub(super) fn new(format: Format, out: usize, inn: usize) -> Result<Self> {
        if out == 0 || inn == 0 {
            return Err(KernelError::shape(OP, format!("a matrix of shape [{out}, {inn}] has no elements")));
        }
        let bytes = format.packed_bytes(out, inn).ok_or(KernelError::Memory { bytes: usize::MAX })?;
        let data = AlignedBuf::zeroed(bytes)?;
        Ok(Self { data, format, out, inn, filled: vec![false; out] })
    }

    /// Fill rows `first_row..` with whole rows, encoded as `stored`; what the format can not hold is rounded.
    ///
    /// # Errors
    /// A number of columns that the encoding has no blocks for, bytes that are not whole rows, rows beyond the last,
    /// and rows that were filled before.
    pub fn rows(&mut self, first_row: usize, stored: Stored, bytes: &[u8]) -> Result<()> {
        let inn = self.inn;
        let row_bytes = stored.row_bytes(inn).ok_or_else(|| {
            let len = stored.block_len();
            KernelError::shape(OP, format!("rows of {inn} numbers are no whole blocks of {len} ({stored:?})"))
        })?;
        if !bytes.len().is_multiple_of(row_bytes) {
            return Err(KernelError::shape(
                OP,
                format!("{} bytes are not whole rows of {row_bytes} bytes", bytes.len()),
            ));
        }
        let last_row = first_row.saturating_add(bytes.len() / row_bytes);
        let Some(filled) = self.filled.get_mut(first_row..last_row) else {
            return Err(KernelError::shape(
                OP,
                format!("rows {first_row}..{last_row} given, the matrix has {}", self.out),
            ));
        };
        if let Some(twice) = filled.iter().position(|f| *f) {
            return Err(KernelError::shape(OP, format!("row {} given twice", first_row + twice)));
        }
        filled.fill(true);
        if bytes.is_empty() {
            return Ok(());
        }
        let format = self.format;
        let tile_bytes = self.data.len() / self.out.div_ceil(LANES);
        let tiles = first_row / LANES..last_row.div_ceil(LANES);
        let target = Shared::new(self.data.as_mut_ptr());
        parallel_for(tiles.len(), &|chunk| {
            let tile = tiles.start + chunk;
            let rows = first_row.max(tile * LANES)..last_row.min((tile + 1) * LANES);
            let source = &bytes[(rows.start - first_row) * row_bytes..(rows.end - first_row) * row_bytes];
            // SAFETY: `target` holds all tiles and is borrowed mutably; this chunk alone touches tile `tile`.
            let tile =
                unsafe { std::slice::from_raw_parts_mut(target.get().add(tile * tile_bytes), tile_bytes) };
            fill(tile, format, rows, stored, source, inn);
        })
    }

    /// The finished matrix.
    ///
    /// # Errors
    /// A row that was never filled.
    pub fn finish(self) -> Result<PackedWeight> {
        match self.filled.iter().position(|f| !f) {
            Some(row) => Err(KernelError::shape(OP, format!("row {row} of {} was never given", self.out))),
            None => Ok(PackedWeight {
                data: Tiles::Owned(self.data),
                format: self.format,
                rounds_activations: false,
                out: self.out,
                inn: self.inn,
            }),
        }
    }
}

/// Write whole rows into their lanes of one tile, by the shortest way from one encoding to the other.
fn fill(tile: &mut [u8], format: Format, rows: Range<usize>, stored: Stored, source: &[u8], inn: usize) {
    if format.stored() == stored
        && let Some(dtype) = format.dtype()
    {
        // SAFETY: the tile has `inn * 16` elements and their padding, the source `rows.len() * inn`, both of type E.
        return with_weight_element!(dtype, E => unsafe {
            transpose(source.as_ptr().cast::<E>(), tile.as_mut_ptr().cast::<E>(), rows, inn);
        });
    }
    let (isa, row_bytes) = (Isa::detect(), source.len() / rows.len());
    let mut numbers = vec![0.0f32; inn];
    for (row, source) in rows.zip(source.chunks_exact(row_bytes)) {
        let lane = row % LANES;
        with_tile!(format, Q => pack_row::<Q>(isa, tile, lane, stored, source, &mut numbers), _ => {
            stored.decode(source, &mut numbers);
            match format {
                Format::F16 => scatter::<f16>(&numbers, tile, lane),
                Format::BF16 => scatter::<PairedBf16>(&numbers, tile, lane),
                _ => scatter::<f32>(&numbers, tile, lane),
            }
        });
    }
}

/// Round `numbers` into their places of lane `lane`.
fn scatter<E: Element>(numbers: &[f32], tile: &mut [u8], lane: usize) {
    assert_eq!(tile.len(), E::padded(numbers.len()) * LANES * size_of::<E>());
    let tile = tile.as_mut_ptr().cast::<E>();
    for (k, number) in numbers.iter().enumerate() {
        // SAFETY: the tile has room for sixteen elements for each number, as was just asserted.
        unsafe { tile.add(E::place(k, lane)).write_unaligned(E::from_f32(*number)) };
    }
}

/// Copy `rows`, which lie one behind the other at `source`, into their lanes of one tile.
///
/// # Safety
/// `source` must be readable for `rows.len() * inn` elements of any alignment; `tile` must be writable for `inn * 16`, padded.
/// The rows must all belong to this tile.
unsafe fn transpose<E: Element>(source: *const E, tile: *mut E, rows: Range<usize>, inn: usize) {
    let mut from = 0;
    while from < inn {
        let to = inn.min(from + STRIP);
        for (i, row) in rows.clone().enumerate() {
            let lane = row % LANES;
            // SAFETY: `k < inn` and `lane < 16`. Checkpoints are little-endian; so are the machines we run on.
            unsafe {
                let source = source.add(i * inn);
                for k in from..to {
                    tile.add(E::place(k, lane)).write(source.add(k).read_unaligned());
                }
            }
        }
        from = to;
    }
}

#[cfg(target_endian = "big")]
compile_error!("weights are read as little-endian bytes");

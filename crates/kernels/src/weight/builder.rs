//! Packing: rows as a checkpoint stores them, into tiles.

use candle_core::DType;

use super::PackedWeight;
use crate::aligned::AlignedBuf;
use crate::element::{Element, LANES, stored_bytes, with_element};
use crate::error::{KernelError, Result};
use crate::pool::parallel_for;
use crate::tensor::Shared;

const OP: &str = "packed weight";
/// Input features that one chunk transposes at a time: sixteen rows of them stay in the first-level cache.
const STRIP: usize = 256;

/// A [`PackedWeight`] while its rows arrive, in any order, each once.
pub struct PackedWeightBuilder {
    weight: PackedWeight,
    filled: Vec<bool>,
}

// === impl PackedWeightBuilder ===

impl PackedWeightBuilder {
    pub(super) fn new(dtype: DType, out: usize, inn: usize) -> Result<Self> {
        let width = stored_bytes(OP, "the matrix", dtype)?;
        if out == 0 || inn == 0 {
            return Err(KernelError::shape(OP, format!("a matrix of shape [{out}, {inn}] has no elements")));
        }
        let bytes = out
            .checked_next_multiple_of(LANES)
            .and_then(|rows| rows.checked_mul(inn))
            .and_then(|elements| elements.checked_mul(width))
            .ok_or(KernelError::Memory { bytes: usize::MAX })?;
        let data = AlignedBuf::zeroed(bytes)?;
        Ok(Self { weight: PackedWeight { data, dtype, out, inn }, filled: vec![false; out] })
    }

    /// Bytes of one row as [`rows`](Self::rows) wants it.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        with_element!(self.weight.dtype, E => self.weight.inn * size_of::<E>())
    }

    /// Fill rows `first_row..` with whole rows of little-endian numbers in the matrix's dtype.
    ///
    /// # Errors
    /// Bytes that are not whole rows, rows beyond the last, and rows that were filled before.
    pub fn rows(&mut self, first_row: usize, bytes: &[u8]) -> Result<()> {
        let row_bytes = self.row_bytes();
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
                format!("rows {first_row}..{last_row} given, the matrix has {}", self.weight.out),
            ));
        };
        if let Some(twice) = filled.iter().position(|f| *f) {
            return Err(KernelError::shape(OP, format!("row {} given twice", first_row + twice)));
        }
        filled.fill(true);
        if bytes.is_empty() {
            return Ok(());
        }
        let inn = self.weight.inn;
        let tiles = first_row / LANES..last_row.div_ceil(LANES);
        let target = Shared::new(self.weight.data.as_mut_ptr());
        with_element!(self.weight.dtype, E => parallel_for(tiles.len(), &|chunk| {
            let tile = tiles.start + chunk;
            let rows = first_row.max(tile * LANES)..last_row.min((tile + 1) * LANES);
            // SAFETY: `target` holds `num_tiles * inn * 16` elements of type E and is borrowed mutably; this chunk
            // alone writes tile `tile`. `rows` lie in `first_row..last_row`, whose bytes `bytes` holds.
            unsafe {
                let source = bytes.as_ptr().cast::<E>().wrapping_sub(first_row * inn);
                let tile_start = target.get().cast::<E>().add(tile * inn * LANES);
                transpose(source, tile_start, rows, inn);
            }
        }))
    }

    /// The finished matrix.
    ///
    /// # Errors
    /// A row that was never filled.
    pub fn finish(self) -> Result<PackedWeight> {
        match self.filled.iter().position(|f| !f) {
            Some(row) => {
                Err(KernelError::shape(OP, format!("row {row} of {} was never given", self.weight.out)))
            }
            None => Ok(self.weight),
        }
    }
}

/// Copy `rows` of a row-major matrix into their lanes of one tile.
///
/// # Safety
/// Row `r` must be readable at `source + r * inn` for `inn` elements of any alignment; `tile` must be writable
/// for `inn * 16`. The rows must all belong to this tile.
unsafe fn transpose<E: Element>(source: *const E, tile: *mut E, rows: std::ops::Range<usize>, inn: usize) {
    let mut from = 0;
    while from < inn {
        let to = inn.min(from + STRIP);
        for row in rows.clone() {
            let slot = E::slot(row % LANES);
            // SAFETY: `k < inn` and `slot < 16`. Checkpoints are little-endian; so are the machines we run on.
            unsafe {
                let source = source.wrapping_add(row * inn);
                for k in from..to {
                    tile.add(k * LANES + slot).write(source.add(k).read_unaligned());
                }
            }
        }
        from = to;
    }
}

#[cfg(target_endian = "big")]
compile_error!("weights are read as little-endian bytes");

//! A weight matrix in the order in which kernels read it.
//!
//! Rows of the matrix (output features) are taken sixteen at a time; a tile holds, for each input feature, the
//! sixteen weights that it is multiplied with, side by side: `[out / 16][in][16]`, in the stored dtype. One
//! load then feeds sixteen sums, memory is read front to back, and no sum ever crosses lanes. Quantised tiles
//! follow the same idea in units of several input features; `quant.rs` says how.

mod builder;
mod tiles;

use std::ops::Range;
use std::sync::Arc;

pub use self::builder::PackedWeightBuilder;
use self::tiles::{MappedBytes, Tiles};
use crate::element::{Element, LANES, with_weight_element};
use crate::error::{KernelError, Result};
use crate::format::Format;
use crate::mapping::FileMapping;
use crate::quant::{QuantTile, unpack_row, with_tile};

/// Version of the order of bytes in tiles, of all formats. Files hold tiles as they are, so whoever changes a byte of them
/// raises it; a test knows the bytes of each version.
pub const TILE_LAYOUT: u32 = 1;

/// Bytes that tiles in a file are aligned to.
pub const TILE_ALIGNMENT: usize = crate::aligned::ALIGNMENT;

/// An `[out, in]` matrix in f32, f16, bf16 or quantised, packed for [`linear`](crate::linear()).
pub struct PackedWeight {
    data: Tiles,
    format: Format,
    rounds_activations: bool,
    out: usize,
    inn: usize,
}

// === impl PackedWeight ===

impl PackedWeight {
    /// Pack a whole matrix given row by row in the encoding that loses nothing: see [`Format::stored`].
    ///
    /// # Errors
    /// An empty shape, a number of bytes that is not the shape's, or no memory.
    pub fn pack(format: Format, out: usize, inn: usize, row_major: &[u8]) -> Result<Self> {
        let mut builder = Self::builder(format, out, inn)?;
        builder.rows(0, format.stored(), row_major)?;
        builder.finish()
    }

    /// A matrix that is filled by runs of rows: while a file streams in, or from several tensors (q, k and v).
    ///
    /// # Errors
    /// An empty shape, or no memory.
    pub fn builder(format: Format, out: usize, inn: usize) -> Result<PackedWeightBuilder> {
        PackedWeightBuilder::new(format, out, inn)
    }

    /// A matrix whose tiles lie in a file, from `offset` on: [`PackedWeight::bytes`] of one that was packed before, by the
    /// same [`TILE_LAYOUT`]. Nothing is copied; the matrix keeps the map.
    ///
    /// # Errors
    /// An empty shape, bytes beyond the end of the file, or an offset that is no multiple of [`TILE_ALIGNMENT`].
    pub fn mapped(
        format: Format,
        out: usize,
        inn: usize,
        file: &Arc<FileMapping>,
        offset: usize,
    ) -> Result<Self> {
        let bytes = match format.packed_bytes(out, inn) {
            Some(bytes) if bytes > 0 => bytes,
            _ => {
                return Err(KernelError::shape(
                    "mapped weight",
                    format!("a matrix of shape [{out}, {inn}] has no elements, or too many"),
                ));
            }
        };
        let Some(mapped) = MappedBytes::new(file, offset, bytes) else {
            let problem =
                format!("{bytes} bytes at {offset} are not in the file, or not aligned to {TILE_ALIGNMENT}");
            return Err(KernelError::shape("mapped weight", problem));
        };
        Ok(Self { data: Tiles::Mapped(mapped), format, rounds_activations: false, out, inn })
    }

    /// Rows `rows` of a matrix as one of its own, of which nothing is copied: an expert among those that lie one behind the other.
    ///
    /// # Errors
    /// Rows that the matrix does not have, or that do not begin and end with a tile of sixteen.
    pub fn part(whole: &Arc<Self>, rows: Range<usize>) -> Result<Self> {
        let is_whole = |row: usize| row.is_multiple_of(LANES);
        if rows.is_empty() || rows.end > whole.out || !is_whole(rows.start) || !is_whole(rows.end) {
            let problem = format!("rows {rows:?} are not whole tiles of sixteen of {whole:?}");
            return Err(KernelError::shape("part of a weight", problem));
        }
        let tile = whole.bytes().len() / whole.num_tiles();
        let bytes = rows.start / LANES * tile..rows.end / LANES * tile;
        let Self { format, rounds_activations, inn, .. } = **whole;
        Ok(Self {
            data: Tiles::Part(Arc::clone(whole), bytes),
            format,
            rounds_activations,
            out: rows.len(),
            inn,
        })
    }

    /// Rows of the matrix: the length of an output of [`linear`](crate::linear()).
    #[must_use]
    pub fn out_features(&self) -> usize {
        self.out
    }

    /// Columns of the matrix: the length of an input.
    #[must_use]
    pub fn in_features(&self) -> usize {
        self.inn
    }

    /// How the numbers lie in memory.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// With `round`, and weights in bf16, activations are rounded to bf16 before they are multiplied, as models of
    /// that type were made to; processors that multiply pairs of bf16 are twice as fast then. Sums stay f32.
    pub fn round_activations(&mut self, round: bool) {
        self.rounds_activations = round;
    }

    /// Whether activations are rounded to bf16.
    pub(crate) fn rounds_activations(&self) -> bool {
        self.rounds_activations
    }

    /// Bytes held, padding included.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.bytes().len()
    }

    /// The matrix in f32, row by row.
    #[must_use]
    pub fn dequantize(&self) -> Vec<f32> {
        let mut rows = vec![0.0; self.out * self.inn];
        for (row, values) in rows.chunks_exact_mut(self.inn).enumerate() {
            self.read_row(row, values);
        }
        rows
    }

    /// Tiles of sixteen rows, the last one padded with zeros.
    pub(crate) fn num_tiles(&self) -> usize {
        self.out.div_ceil(LANES)
    }

    /// The first element; tile `t` begins `t * E::padded(in_features) * 16` elements further.
    ///
    /// `E` must be the stored type, which `with_weight_element!` gives for the format's dtype.
    pub(crate) fn tiles<E: Element>(&self) -> *const E {
        debug_assert_eq!(self.bytes().len(), self.num_tiles() * E::padded(self.inn) * LANES * size_of::<E>());
        self.bytes().as_ptr().cast()
    }

    /// All bytes of the tiles.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.data.as_slice()
    }

    /// Widen row `row` into `values`.
    pub(crate) fn read_row(&self, row: usize, values: &mut [f32]) {
        assert!(row < self.out && values.len() == self.inn, "row {row} of {}", self.out);
        let Some(dtype) = self.format.dtype() else { return self.read_quantised_row(row, values) };
        with_weight_element!(dtype, E => {
            // SAFETY: `row` is one of the rows, so all places of its lane lie in the tiles of type `E`.
            unsafe {
                let tile = self.tiles::<E>().add(row / LANES * E::padded(self.inn) * LANES);
                for (k, value) in values.iter_mut().enumerate() {
                    *value = tile.add(E::place(k, row % LANES)).read().to_f32();
                }
            }
        });
    }

    fn read_quantised_row(&self, row: usize, values: &mut [f32]) {
        with_tile!(self.format, Q => {
            let bytes = Q::units(self.inn) * Q::UNIT_BYTES;
            let tile = &self.bytes()[row / LANES * bytes..][..bytes];
            unpack_row::<Q>(tile, row % LANES, values);
        }, _ => {});
    }
}

impl std::fmt::Debug for PackedWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackedWeight([{}, {}] {:?})", self.out, self.inn, self.format)
    }
}

#[cfg(test)]
mod tests;

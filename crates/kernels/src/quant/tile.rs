//! What a quantised format is: how blocks of numbers are rounded, and where their codes lie in a tile.

use super::BLOCK;
use crate::simd::Lanes;
use crate::stored::Stored;

/// Most numbers that are rounded together, and most bytes that they are encoded in.
pub(crate) const MAX_LEN: usize = 256;
pub(crate) const MAX_BYTES: usize = 210;

/// A quantised format. Blocks come and go in the encoding of files that has the same codes, so that rounding for a file
/// and rounding while packing can not differ.
pub(crate) trait QuantTile {
    /// That encoding.
    const STORED: Stored;
    /// Numbers of a row that are rounded together.
    const LEN: usize = Self::STORED.block_len();
    /// Runs of [`BLOCK`] features that lie together in a tile.
    const UNIT_BLOCKS: usize;
    /// Bytes of them, for sixteen rows.
    const UNIT_BYTES: usize;

    /// The nearest block to `LEN` numbers.
    ///
    /// # Safety
    /// The instruction set of `L` is there.
    unsafe fn round<L: Lanes>(numbers: &[f32], block: &mut [u8]);

    /// Put block `index` of row `lane` into its tile.
    fn write(tile: &mut [u8], index: usize, lane: usize, block: &[u8]);

    /// Block `index` of row `lane`.
    fn read(tile: &[u8], index: usize, lane: usize, block: &mut [u8]);

    /// Units of `inn` features; the last one may be filled in part.
    fn units(inn: usize) -> usize {
        inn.div_ceil(Self::UNIT_BLOCKS * BLOCK)
    }

    /// Bytes of a tile, `None` when they can not be counted.
    fn tile_bytes(inn: usize) -> Option<usize> {
        Self::units(inn).checked_mul(Self::UNIT_BYTES)
    }
}

/// Run `$body` with the type name `$Q` bound to the tile of a quantised format, or `$other` for the rest.
macro_rules! with_tile {
    ($format:expr, $Q:ident => $body:expr, _ => $other:expr) => {
        match $format {
            $crate::format::Format::Q8 => {
                type $Q = $crate::quant::Q8;
                $body
            }
            $crate::format::Format::Q4 => {
                type $Q = $crate::quant::Q4;
                $body
            }
            $crate::format::Format::Q4K => {
                type $Q = $crate::quant::Q4K;
                $body
            }
            $crate::format::Format::Q5K => {
                type $Q = $crate::quant::Q5K;
                $body
            }
            $crate::format::Format::Q6K => {
                type $Q = $crate::quant::Q6K;
                $body
            }
            _ => $other,
        }
    };
}
pub(crate) use with_tile;

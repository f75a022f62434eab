//! The formats of quantised tiles: how a block is rounded, and where its codes lie.

use half::f16;

use super::BLOCK;
use super::pack::{q4_0, q8_0};
use crate::element::LANES;
use crate::stored::Stored;

/// Blocks of a unit.
pub(super) const UNIT_BLOCKS: usize = 2;
/// Bytes of the scales of one block.
pub(super) const SCALE_BYTES: usize = 2 * LANES;

/// A block as it is rounded: the scale, and what it is multiplied with.
pub(crate) struct Block {
    pub(crate) scale: f16,
    pub(crate) codes: [i8; BLOCK],
}

/// A quantised format.
pub(crate) trait QuantTile {
    /// Bytes of the codes of a block of sixteen rows.
    const CODE_BYTES: usize;
    /// Scales and codes of two blocks.
    const UNIT_BYTES: usize = UNIT_BLOCKS * (SCALE_BYTES + Self::CODE_BYTES);

    /// Bytes of the codes of a block in the encoding of files that has the same codes.
    const STORED_CODE_BYTES: usize;

    /// Write the codes of a block as files have them.
    fn store_codes(codes: &[i8; BLOCK], to: &mut [u8]);

    /// How to read blocks of an encoding that has the same codes.
    fn as_stored(stored: Stored) -> Option<fn(&[u8]) -> Block>;

    /// The nearest block.
    fn round(numbers: &[f32; BLOCK]) -> Block;

    /// Write the codes of row `lane` to the codes of a tile's block.
    fn write_codes(codes: &[i8; BLOCK], lane: usize, to: &mut [u8]);

    /// The codes of row `lane`.
    fn read_codes(from: &[u8], lane: usize) -> [i8; BLOCK];

    /// Units of `inn` features; the last one may be half filled.
    fn units(inn: usize) -> usize {
        inn.div_ceil(UNIT_BLOCKS * BLOCK)
    }

    /// Bytes of a tile, `None` when they can not be counted.
    fn tile_bytes(inn: usize) -> Option<usize> {
        Self::units(inn).checked_mul(Self::UNIT_BYTES)
    }

    /// Put block `block` of row `lane` into its tile.
    fn write(tile: &mut [u8], block: usize, lane: usize, rounded: &Block) {
        let (scales, codes) = Self::places(block);
        let at = scales.start + 2 * lane;
        tile[at..at + 2].copy_from_slice(&rounded.scale.to_le_bytes());
        Self::write_codes(&rounded.codes, lane, &mut tile[codes]);
    }

    /// The numbers of block `block` of row `lane`.
    fn read(tile: &[u8], block: usize, lane: usize) -> [f32; BLOCK] {
        let (scales, codes) = Self::places(block);
        let at = scales.start + 2 * lane;
        let scale = f16::from_le_bytes([tile[at], tile[at + 1]]).to_f32();
        Self::read_codes(&tile[codes], lane).map(|code| scale * f32::from(code))
    }

    /// Where scales and codes of a block lie.
    fn places(block: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let unit = block / UNIT_BLOCKS * Self::UNIT_BYTES;
        let scales = unit + block % UNIT_BLOCKS * SCALE_BYTES;
        let codes = unit + UNIT_BLOCKS * SCALE_BYTES + block % UNIT_BLOCKS * Self::CODE_BYTES;
        (scales..scales + SCALE_BYTES, codes..codes + Self::CODE_BYTES)
    }
}

/// Eight bits: from -127 to 127.
pub(crate) struct Q8;

/// Four bits: from -8 to 7.
pub(crate) struct Q4;

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
            _ => $other,
        }
    };
}
pub(crate) use with_tile;

/// Added and taken away again, this rounds to a whole number, ties to even: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;

/// The nearest whole number from `least` to `most`.
#[inline(always)]
fn whole(x: f32, least: f32, most: f32) -> f32 {
    let x = if x < least { least } else { x };
    let x = if x > most { most } else { x };
    (x + ROUNDER) - ROUNDER
}

/// The number of greatest magnitude, with its sign; not a number where one is not.
#[inline(always)]
fn greatest(numbers: &[f32; BLOCK]) -> f32 {
    let (mut low, mut high, mut poison) = ([0.0f32; 16], [0.0f32; 16], [0.0f32; 16]);
    for half in numbers.as_chunks::<16>().0 {
        for lane in 0..16 {
            let x = half[lane];
            low[lane] = if x < low[lane] { x } else { low[lane] };
            high[lane] = if x > high[lane] { x } else { high[lane] };
            // Zero for every finite number; anything else must not vanish in a code.
            poison[lane] += x * 0.0;
        }
    }
    let low = low.into_iter().fold(0.0, f32::min);
    let high = high.into_iter().fold(0.0, f32::max);
    let poison: f32 = poison.into_iter().sum();
    poison + if -low > high { low } else { high }
}

/// The codes of numbers times `by`; what is no number gets 0.
#[inline(always)]
fn codes_of(numbers: &[f32; BLOCK], by: f32, least: f32, most: f32) -> [i8; BLOCK] {
    let mut codes = [0i8; BLOCK];
    for (code, x) in codes.iter_mut().zip(numbers) {
        *code = whole(x * by, least, most) as i32 as i8;
    }
    codes
}

// === impl QuantTile ===

impl QuantTile for Q8 {
    const CODE_BYTES: usize = BLOCK * LANES;
    const STORED_CODE_BYTES: usize = BLOCK;

    fn store_codes(codes: &[i8; BLOCK], to: &mut [u8]) {
        to.copy_from_slice(&codes.map(i8::cast_unsigned));
    }

    fn as_stored(stored: Stored) -> Option<fn(&[u8]) -> Block> {
        (stored == Stored::Q8_0).then_some(q8_0 as fn(&[u8]) -> Block)
    }

    #[inline(always)]
    fn round(numbers: &[f32; BLOCK]) -> Block {
        let scale = f16::from_f32(greatest(numbers).abs() / 127.0);
        let by = scale.to_f32().recip();
        let by = if by.is_finite() { by } else { 0.0 };
        Block { scale, codes: codes_of(numbers, by, -127.0, 127.0) }
    }

    fn write_codes(codes: &[i8; BLOCK], lane: usize, to: &mut [u8]) {
        for (group, four) in codes.as_chunks::<4>().0.iter().enumerate() {
            let at = group * 4 * LANES + 4 * lane;
            to[at..at + 4].copy_from_slice(&four.map(|code| code.cast_unsigned() ^ 0x80));
        }
    }

    fn read_codes(from: &[u8], lane: usize) -> [i8; BLOCK] {
        std::array::from_fn(|k| (from[k / 4 * 4 * LANES + 4 * lane + k % 4] ^ 0x80).cast_signed())
    }
}

/// Divisors of the greatest magnitude that are tried as scales; -8 spends the extra code on it.
const Q4_DIVISORS: [f32; 9] = [-8.0, -7.7, -7.4, -7.1, -8.4, -8.8, 7.0, 7.4, -9.3];

impl QuantTile for Q4 {
    const CODE_BYTES: usize = BLOCK * LANES / 2;
    const STORED_CODE_BYTES: usize = BLOCK / 2;

    fn store_codes(codes: &[i8; BLOCK], to: &mut [u8]) {
        let (lower, upper) = codes.split_at(BLOCK / 2);
        let nibble = |code: i8| (code + 8).cast_unsigned();
        for (to, (lower, upper)) in to.iter_mut().zip(lower.iter().zip(upper)) {
            *to = nibble(*lower) | nibble(*upper) << 4;
        }
    }

    fn as_stored(stored: Stored) -> Option<fn(&[u8]) -> Block> {
        (stored == Stored::Q4_0).then_some(q4_0 as fn(&[u8]) -> Block)
    }

    /// Of a few scales around the greatest number, the one with the least sum of squared errors.
    #[inline(always)]
    fn round(numbers: &[f32; BLOCK]) -> Block {
        let greatest = greatest(numbers);
        let mut best = (f32::INFINITY, f16::from_f32(greatest * 0.0), 0.0);
        for divisor in Q4_DIVISORS {
            let scale = f16::from_f32(greatest / divisor);
            let step = scale.to_f32();
            let by = step.recip();
            if !by.is_finite() || !step.is_finite() {
                continue;
            }
            let mut errors = [0.0f32; 16];
            for half in numbers.as_chunks::<16>().0 {
                for lane in 0..16 {
                    let off = half[lane] - step * whole(half[lane] * by, -8.0, 7.0);
                    errors[lane] += off * off;
                }
            }
            let error: f32 = errors.into_iter().sum();
            if error < best.0 {
                best = (error, scale, by);
            }
        }
        let (_, scale, by) = best;
        Block { scale, codes: codes_of(numbers, by, -8.0, 7.0) }
    }

    fn write_codes(codes: &[i8; BLOCK], lane: usize, to: &mut [u8]) {
        let (lower, upper) = codes.split_at(BLOCK / 2);
        for (k, (lower, upper)) in lower.iter().zip(upper).enumerate() {
            let nibble = |code: i8| (code + 8).cast_unsigned();
            to[k / 4 * 4 * LANES + 4 * lane + k % 4] = nibble(*lower) | nibble(*upper) << 4;
        }
    }

    fn read_codes(from: &[u8], lane: usize) -> [i8; BLOCK] {
        std::array::from_fn(|k| {
            let byte = from[k % 16 / 4 * 4 * LANES + 4 * lane + k % 4];
            let nibble = if k < 16 { byte & 15 } else { byte >> 4 };
            nibble.cast_signed() - 8
        })
    }
}

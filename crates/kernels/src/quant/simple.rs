//! Eight and four bits with a scale for each 32 numbers.
//!
//! Two blocks of 32 input features make a unit: the scales of the first block and of the second (sixteen f16 each), then
//! the codes of the first and of the second. Codes lie as dot products of four want them: `[8 groups][16 rows][4]` for
//! eight bits; for four bits `[4 groups][16 rows][4]`, the lower nibble being number `k` and the upper one number
//! `k + 16` of the block.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::BLOCK;
use super::dots::Dots;
use super::micro::{Codes, GROUP, Panel, fetch_ahead};
use super::round::{best_step, greatest, inverse, whole};
use super::tile::QuantTile;
use crate::element::LANES;
use crate::simd::Lanes;
use crate::stored::Stored;

/// Eight bits: whole numbers from -127 to 127.
pub(crate) struct Q8;

/// Four bits: whole numbers from -8 to 7.
pub(crate) struct Q4;

/// Blocks of a unit.
const UNIT_BLOCKS: usize = 2;
/// Bytes of the scales of one block.
const SCALE_BYTES: usize = 2 * LANES;
/// Divisors of the greatest magnitude that are tried as scales; -8 spends the extra code on it.
const Q4_DIVISORS: [f32; 9] = [-8.0, -7.7, -7.4, -7.1, -8.4, -8.8, 7.0, 7.4, -9.3];

/// What the two have in common.
pub(super) trait Simple {
    /// As [`QuantTile::STORED`].
    const STORED: Stored;

    /// Bytes of the codes of a block of sixteen rows.
    const CODE_BYTES: usize;

    /// The bit in which codes differ from those of files: unsigned here, signed there.
    const FLIP: u8;

    /// As [`QuantTile::round`].
    ///
    /// # Safety
    /// As there.
    unsafe fn nearest<L: Lanes>(numbers: &[f32], block: &mut [u8]);

    /// Where the scale of row `lane` and where the codes of a block lie.
    fn places(block: usize, lane: usize) -> (usize, usize) {
        let unit = block / UNIT_BLOCKS * UNIT_BLOCKS * (SCALE_BYTES + Self::CODE_BYTES);
        let scales = unit + block % UNIT_BLOCKS * SCALE_BYTES;
        (scales + 2 * lane, unit + UNIT_BLOCKS * SCALE_BYTES + block % UNIT_BLOCKS * Self::CODE_BYTES)
    }

    /// Sums that are free of the offset of stored codes; `offset` is -32 times the sum of the activation's.
    ///
    /// # Safety
    /// The instruction set of `D` is there.
    unsafe fn start<D: Dots>(offset: i32) -> D;

    /// Add the dot products of one block, whose codes are at `tiles`.
    ///
    /// # Safety
    /// The codes of a block are readable at each of `tiles`; the instruction set of `D` is there.
    unsafe fn add_block<D: Dots, const R: usize, const T: usize>(
        x: Panel<R>,
        tiles: [*const u8; T],
        sums: &mut [[D; R]; T],
    );
}

impl<S: Simple> QuantTile for S {
    const STORED: Stored = S::STORED;
    const UNIT_BLOCKS: usize = UNIT_BLOCKS;
    const UNIT_BYTES: usize = UNIT_BLOCKS * (SCALE_BYTES + S::CODE_BYTES);

    #[inline(always)]
    unsafe fn round<L: Lanes>(numbers: &[f32], block: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { S::nearest::<L>(numbers, block) }
    }

    fn write(tile: &mut [u8], index: usize, lane: usize, block: &[u8]) {
        let (scale, codes) = S::places(index, lane);
        tile[scale..scale + 2].copy_from_slice(&block[..2]);
        for (group, four) in block[2..].as_chunks::<4>().0.iter().enumerate() {
            let at = codes + place(4 * group, lane);
            tile[at..at + 4].copy_from_slice(&four.map(|code| code ^ S::FLIP));
        }
    }

    fn read(tile: &[u8], index: usize, lane: usize, block: &mut [u8]) {
        let (scale, codes) = S::places(index, lane);
        block[..2].copy_from_slice(&tile[scale..scale + 2]);
        for (k, code) in block[2..].iter_mut().enumerate() {
            *code = tile[codes + place(k, lane)] ^ S::FLIP;
        }
    }
}

impl<S: Simple> Codes for S {
    #[inline(always)]
    unsafe fn add_unit<D: Dots, const R: usize, const T: usize>(
        mut x: Panel<R>,
        tiles: [*const u8; T],
        totals: &mut [[D::Floats; R]; T],
    ) {
        // SAFETY: the unit has two blocks of scales and codes; the caller's promise.
        unsafe {
            fetch_ahead::<D::Floats, T>(tiles[0]);
            for half in 0..UNIT_BLOCKS {
                let mut sums = [[S::start::<D>(0); R]; T];
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r] = S::start(x.offset(r));
                    }
                }
                let codes = UNIT_BLOCKS * SCALE_BYTES + half * S::CODE_BYTES;
                S::add_block(x, tiles.map(|tile| tile.add(codes)), &mut sums);
                for t in 0..T {
                    let of_tile = D::Floats::load_f16(tiles[t].add(half * SCALE_BYTES).cast());
                    for r in 0..R {
                        let scale = of_tile.mul(D::Floats::splat(x.scale(r)));
                        totals[t][r] = sums[t][r].to_floats().fma(scale, totals[t][r]);
                    }
                }
                x = x.next();
            }
        }
    }
}

/// Bytes of the nibbles of a block of sixteen rows.
pub(super) const NIBBLE_BYTES: usize = BLOCK * LANES / 2;

/// Write the lower four bits of each of a row's codes.
#[inline(always)]
pub(super) fn put_nibbles(run: &[u8; BLOCK], lane: usize, codes: &mut [u8]) {
    for k in 0..BLOCK / 2 {
        codes[place(k, lane)] = run[k] & 15 | run[k + BLOCK / 2] << 4;
    }
}

/// Where byte `k` of a row's codes lies among those of sixteen rows.
#[inline(always)]
pub(super) fn place(k: usize, lane: usize) -> usize {
    k / 4 * GROUP + 4 * lane + k % 4
}

// === impl Q8 ===

impl Simple for Q8 {
    const STORED: Stored = Stored::Q8_0;
    const CODE_BYTES: usize = BLOCK * LANES;
    const FLIP: u8 = 0x80;

    #[inline(always)]
    unsafe fn nearest<L: Lanes>(numbers: &[f32], block: &mut [u8]) {
        let scale = f16::from_f32(greatest(numbers).abs() / 127.0);
        let by = inverse(scale.to_f32());
        block[..2].copy_from_slice(&scale.to_le_bytes());
        for (code, x) in block[2..].iter_mut().zip(numbers) {
            *code = (whole(x * by, -127.0, 127.0) as i32 as i8).cast_unsigned();
        }
    }

    #[inline(always)]
    unsafe fn start<D: Dots>(offset: i32) -> D {
        // SAFETY: the caller's promise.
        unsafe { D::start_8(4 * offset) }
    }

    #[inline(always)]
    unsafe fn add_block<D: Dots, const R: usize, const T: usize>(
        x: Panel<R>,
        tiles: [*const u8; T],
        sums: &mut [[D; R]; T],
    ) {
        for group in 0..BLOCK / 4 {
            for t in 0..T {
                // SAFETY: the caller's promise.
                unsafe {
                    let at = tiles[t].add(group * GROUP);
                    fetch_ahead::<D::Floats, T>(at);
                    let codes = D::load(at);
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add_8(codes, x.four(r, group));
                    }
                }
            }
        }
    }
}

/// What is left of numbers that are stored as f16.
fn through_f16(numbers: &mut [f32; LANES]) {
    let mut stored = [f16::ZERO; LANES];
    stored.convert_from_f32_slice(numbers);
    stored.convert_to_f32_slice(numbers);
}

// === impl Q4 ===

impl Simple for Q4 {
    const STORED: Stored = Stored::Q4_0;
    const CODE_BYTES: usize = NIBBLE_BYTES;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn nearest<L: Lanes>(numbers: &[f32], block: &mut [u8]) {
        // SAFETY: the caller's promise.
        let step = unsafe { best_step::<L, BLOCK>(numbers, &Q4_DIVISORS, (-8.0, 7.0), through_f16) };
        let by = inverse(step);
        block[..2].copy_from_slice(&f16::from_f32(step).to_le_bytes());
        let (lower, upper) = numbers.split_at(BLOCK / 2);
        let nibble = |x: f32| (whole(x * by, -8.0, 7.0) as i32 + 8) as u8;
        for (code, (lower, upper)) in block[2..].iter_mut().zip(lower.iter().zip(upper)) {
            *code = nibble(*lower) | nibble(*upper) << 4;
        }
    }

    #[inline(always)]
    unsafe fn start<D: Dots>(offset: i32) -> D {
        // SAFETY: the caller's promise.
        unsafe { D::splat(offset >> 2) }
    }

    #[inline(always)]
    unsafe fn add_block<D: Dots, const R: usize, const T: usize>(
        x: Panel<R>,
        tiles: [*const u8; T],
        sums: &mut [[D; R]; T],
    ) {
        for group in 0..BLOCK / 8 {
            for t in 0..T {
                // SAFETY: the caller's promise.
                unsafe {
                    let at = tiles[t].add(group * GROUP);
                    fetch_ahead::<D::Floats, T>(at);
                    let codes = D::load(at);
                    let (lower, upper) = (D::lower(codes), D::upper(codes));
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add_6(lower, x.four(r, group));
                    }
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add_6(upper, x.four(r, group + BLOCK / 8));
                    }
                }
            }
        }
    }
}

//! Four and five bits with a scale and a minimum for each 32 numbers, which are six-bit multiples of common ones.
//!
//! Eight blocks of 32 input features make a unit: the common scales and minima (sixteen f16 each), for each block sixteen
//! multiples of scales and of minima (a byte each), then the codes, block after block. Nibbles lie as those of
//! [`Q4`](super::Q4); with five bits 64 bytes follow them, of which bit `g` of byte `4 * row + k` is the fifth bit of number
//! `4 * g + k`.

use half::f16;

use super::BLOCK;
use super::dots::Dots;
use super::micro::{Codes, GROUP, Panel, fetch_ahead};
use super::round::{best_lines, inverse, whole};
use super::simple::{NIBBLE_BYTES, place, put_nibbles};
use super::tile::QuantTile;
use crate::element::LANES;
use crate::simd::Lanes;
use crate::stored::Stored;
use crate::stored::k_quants::{Affine, LEN};

/// Codes of four bits, or five.
pub(crate) struct AffineTile<const FIVE: bool>;
/// Four bits, 4.6 with scales and minima.
pub(crate) type Q4K = AffineTile<false>;
/// Five bits, 5.6 with scales and minima.
pub(crate) type Q5K = AffineTile<true>;

/// Blocks of a unit.
const BLOCKS: usize = LEN / BLOCK;
/// Where the multiples begin: behind the common scales and minima.
const MULTIPLES: usize = 2 * 2 * LANES;
/// Bytes of those of a block.
const MULTIPLE_BYTES: usize = 2 * LANES;
/// Where the codes begin.
const CODES: usize = MULTIPLES + BLOCKS * MULTIPLE_BYTES;
/// The greatest multiple.
const MOST: f32 = 63.0;

impl<const FIVE: bool> AffineTile<FIVE> {
    const CODE_BYTES: usize = NIBBLE_BYTES + if FIVE { GROUP } else { 0 };
    const MOST_CODE: f32 = if FIVE { 31.0 } else { 15.0 };
}

impl<const FIVE: bool> QuantTile for AffineTile<FIVE> {
    const STORED: Stored = if FIVE { Stored::Q5_K } else { Stored::Q4_K };
    const UNIT_BLOCKS: usize = BLOCKS;
    const UNIT_BYTES: usize = CODES + BLOCKS * Self::CODE_BYTES;

    #[inline(always)]
    unsafe fn round<L: Lanes>(numbers: &[f32], block: &mut [u8]) {
        let (runs, _) = numbers.as_chunks::<BLOCK>();
        // SAFETY: the caller's promise.
        let lines: [(f32, f32); BLOCKS] = unsafe { best_lines::<L, BLOCK>(numbers, Self::MOST_CODE) };
        // `+` keeps what is no number, which a maximum would pass over.
        let poison: f32 = lines.iter().map(|(step, minimum)| (step + minimum) * 0.0).sum();
        let greatest = |of: fn(&(f32, f32)) -> f32| lines.iter().map(of).fold(0.0, f32::max);
        let scale = f16::from_f32(greatest(|line| line.0) / MOST + poison);
        let min = f16::from_f32(greatest(|line| line.1) / MOST + poison);
        let mut affine = Affine::<FIVE> { scale, min, pairs: [(0, 0); BLOCKS], codes: [0; LEN] };
        let (by_scale, by_min) = (inverse(scale.to_f32()), inverse(min.to_f32()));
        let (codes, _) = affine.codes.as_chunks_mut::<BLOCK>();
        for (i, (run, codes)) in runs.iter().zip(codes).enumerate() {
            let (step, minimum) = lines[i];
            let pair = (whole(step * by_scale, 0.0, MOST), whole(minimum * by_min, 0.0, MOST));
            affine.pairs[i] = (pair.0 as i32 as u8, pair.1 as i32 as u8);
            let by = inverse(scale.to_f32() * pair.0);
            let minimum = min.to_f32() * pair.1;
            for (code, x) in codes.iter_mut().zip(run) {
                *code = whole((x + minimum) * by, 0.0, Self::MOST_CODE) as i32 as u8;
            }
        }
        affine.store(block);
    }

    fn write(tile: &mut [u8], index: usize, lane: usize, block: &[u8]) {
        let affine = Affine::<FIVE>::parse(block);
        let unit = &mut tile[index * Self::UNIT_BYTES..][..Self::UNIT_BYTES];
        unit[2 * lane..][..2].copy_from_slice(&affine.scale.to_le_bytes());
        unit[2 * LANES + 2 * lane..][..2].copy_from_slice(&affine.min.to_le_bytes());
        for (i, run) in affine.codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let multiples = MULTIPLES + i * MULTIPLE_BYTES + lane;
            (unit[multiples], unit[multiples + LANES]) = affine.pairs[i];
            let codes = &mut unit[CODES + i * Self::CODE_BYTES..][..Self::CODE_BYTES];
            put_nibbles(run, lane, codes);
            if FIVE {
                for k in 0..BLOCK {
                    codes[NIBBLE_BYTES + 4 * lane + k % 4] |= (run[k] >> 4) << (k / 4);
                }
            }
        }
    }

    fn read(tile: &[u8], index: usize, lane: usize, block: &mut [u8]) {
        let unit = &tile[index * Self::UNIT_BYTES..][..Self::UNIT_BYTES];
        let half = |at: usize| f16::from_le_bytes([unit[at], unit[at + 1]]);
        let pair = |i: usize| {
            let at = MULTIPLES + i * MULTIPLE_BYTES + lane;
            (unit[at], unit[at + LANES])
        };
        let code = |i: usize| {
            let (codes, k) = (&unit[CODES + i / BLOCK * Self::CODE_BYTES..], i % BLOCK);
            let fifth = if FIVE { (codes[NIBBLE_BYTES + 4 * lane + k % 4] >> (k / 4) & 1) << 4 } else { 0 };
            codes[place(k % (BLOCK / 2), lane)] >> (k / (BLOCK / 2) * 4) & 15 | fifth
        };
        let affine = Affine::<FIVE> {
            scale: half(2 * lane),
            min: half(2 * LANES + 2 * lane),
            pairs: std::array::from_fn(pair),
            codes: std::array::from_fn(code),
        };
        affine.store(block);
    }
}

impl<const FIVE: bool> Codes for AffineTile<FIVE> {
    #[inline(always)]
    unsafe fn add_unit<D: Dots, const R: usize, const T: usize>(
        mut x: Panel<R>,
        tiles: [*const u8; T],
        totals: &mut [[D::Floats; R]; T],
    ) {
        // SAFETY: all places lie in the unit; the caller's promise.
        unsafe {
            let scales = tiles.map(|tile| D::Floats::load_f16(tile.cast()));
            let minima = tiles.map(|tile| D::Floats::load_f16(tile.add(2 * LANES).cast()));
            fetch_ahead::<D::Floats, T>(tiles[0]);
            for block in 0..BLOCKS {
                let codes = tiles.map(|tile| tile.add(CODES + block * Self::CODE_BYTES));
                let multiples = tiles.map(|tile| tile.add(MULTIPLES + block * MULTIPLE_BYTES));
                if block % 2 == 0 {
                    fetch_ahead::<D::Floats, T>(multiples[0]);
                }
                if FIVE {
                    fetch_ahead::<D::Floats, T>(codes[0].add(NIBBLE_BYTES));
                }
                let mut sums = [[D::splat(0); R]; T];
                for group in 0..BLOCK / 8 {
                    for t in 0..T {
                        let at = codes[t].add(group * GROUP);
                        fetch_ahead::<D::Floats, T>(at);
                        let both = D::load(at);
                        let (mut lower, mut upper) = (D::lower(both), D::upper(both));
                        if FIVE {
                            let fifths = D::load(codes[t].add(NIBBLE_BYTES));
                            lower = D::with_upper(lower, fifths, group, 1);
                            upper = D::with_upper(upper, fifths, group + BLOCK / 8, 1);
                        }
                        for r in 0..R {
                            sums[t][r] = sums[t][r].add_6(lower, x.four(r, group));
                        }
                        for r in 0..R {
                            sums[t][r] = sums[t][r].add_6(upper, x.four(r, group + BLOCK / 8));
                        }
                    }
                }
                for t in 0..T {
                    let scale = D::Floats::load_i8(multiples[t].cast()).mul(scales[t]);
                    let minimum = D::Floats::load_i8(multiples[t].add(LANES).cast()).mul(minima[t]);
                    for r in 0..R {
                        let by = scale.mul(D::Floats::splat(x.scale(r)));
                        let total = sums[t][r].to_floats().fma(by, totals[t][r]);
                        totals[t][r] = minimum.fma(D::Floats::splat(x.negative_total(r)), total);
                    }
                }
                x = x.next();
            }
        }
    }
}

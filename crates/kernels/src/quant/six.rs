//! Six bits with a signed scale for each sixteen numbers, which are multiples of a common one.
//!
//! Eight blocks of 32 input features make a unit: the common scales (sixteen f16, as many bytes of padding), for each
//! sixteen features sixteen multiples (a signed byte each), then the codes, block after block. Nibbles lie as those of
//! [`Q4`](super::Q4); the upper pairs of bits follow in 64 bytes for each half of a block, of which bits `2 * g` and
//! `2 * g + 1` of byte `4 * row + k` belong to number `4 * g + k` of that half.

use half::f16;

use super::BLOCK;
use super::dots::Dots;
use super::micro::{Codes, GROUP, Panel, fetch_ahead};
use super::round::{best_steps, inverse, whole};
use super::simple::{NIBBLE_BYTES, place, put_nibbles};
use super::tile::QuantTile;
use crate::element::LANES;
use crate::simd::Lanes;
use crate::stored::Stored;
use crate::stored::k_quants::{LEN, PER_SCALE, Signed};

/// Six bits, 6.6 with scales.
pub(crate) struct Q6K;

/// Blocks of a unit.
const BLOCKS: usize = LEN / BLOCK;
/// Where the multiples begin: behind the common scales and what pads them to a cache line.
const MULTIPLES: usize = 4 * LANES;
/// Where the codes begin.
const CODES: usize = MULTIPLES + LEN / PER_SCALE * LANES;
const CODE_BYTES: usize = NIBBLE_BYTES + 2 * GROUP;
/// Divisors of the greatest magnitude that are tried as scales.
const DIVISORS: [f32; 5] = [-32.0, -31.4, -30.8, 31.0, -33.0];

impl QuantTile for Q6K {
    const STORED: Stored = Stored::Q6_K;
    const UNIT_BLOCKS: usize = BLOCKS;
    const UNIT_BYTES: usize = CODES + BLOCKS * CODE_BYTES;

    #[inline(always)]
    unsafe fn round<L: Lanes>(numbers: &[f32], block: &mut [u8]) {
        let (runs, _) = numbers.as_chunks::<PER_SCALE>();
        // SAFETY: the caller's promise.
        let steps: [f32; LEN / PER_SCALE] =
            unsafe { best_steps::<L, PER_SCALE>(numbers, &DIVISORS, (-32.0, 31.0)) };
        // `+` keeps what is no number, which a maximum would pass over.
        let poison: f32 = steps.iter().map(|step| step * 0.0).sum();
        let greatest = steps.iter().fold(0.0f32, |most, step| most.max(step.abs()));
        let scale = f16::from_f32(greatest / 127.0 + poison);
        let mut signed = Signed { scale, scales: [0; LEN / PER_SCALE], codes: [0; LEN] };
        let by_scale = inverse(scale.to_f32());
        let (codes, _) = signed.codes.as_chunks_mut::<PER_SCALE>();
        for (i, (run, codes)) in runs.iter().zip(codes).enumerate() {
            let multiple = whole(steps[i] * by_scale, -127.0, 127.0);
            signed.scales[i] = multiple as i32 as i8;
            let by = inverse(scale.to_f32() * multiple);
            for (code, x) in codes.iter_mut().zip(run) {
                *code = (whole(x * by, -32.0, 31.0) as i32 + 32) as u8;
            }
        }
        signed.store(block);
    }

    fn write(tile: &mut [u8], index: usize, lane: usize, block: &[u8]) {
        let signed = Signed::parse(block);
        let unit = &mut tile[index * Self::UNIT_BYTES..][..Self::UNIT_BYTES];
        unit[2 * lane..][..2].copy_from_slice(&signed.scale.to_le_bytes());
        for (i, scale) in signed.scales.iter().enumerate() {
            unit[MULTIPLES + i * LANES + lane] = scale.cast_unsigned();
        }
        for (i, run) in signed.codes.as_chunks::<BLOCK>().0.iter().enumerate() {
            let codes = &mut unit[CODES + i * CODE_BYTES..][..CODE_BYTES];
            put_nibbles(run, lane, codes);
            for half in 0..2 {
                for k in 0..4 {
                    let pair = |group: usize| (run[half * PER_SCALE + 4 * group + k] >> 4) << (2 * group);
                    codes[NIBBLE_BYTES + half * GROUP + 4 * lane + k] = pair(0) | pair(1) | pair(2) | pair(3);
                }
            }
        }
    }

    fn read(tile: &[u8], index: usize, lane: usize, block: &mut [u8]) {
        let unit = &tile[index * Self::UNIT_BYTES..][..Self::UNIT_BYTES];
        let code = |i: usize| {
            let (codes, half, k) =
                (&unit[CODES + i / BLOCK * CODE_BYTES..], i % BLOCK / PER_SCALE, i % PER_SCALE);
            let upper = codes[NIBBLE_BYTES + half * GROUP + 4 * lane + k % 4] >> (k / 4 * 2) & 3;
            codes[place(k, lane)] >> (half * 4) & 15 | upper << 4
        };
        let signed = Signed {
            scale: f16::from_le_bytes([unit[2 * lane], unit[2 * lane + 1]]),
            scales: std::array::from_fn(|i| unit[MULTIPLES + i * LANES + lane].cast_signed()),
            codes: std::array::from_fn(code),
        };
        signed.store(block);
    }
}

impl Codes for Q6K {
    #[inline(always)]
    unsafe fn add_unit<D: Dots, const R: usize, const T: usize>(
        mut x: Panel<R>,
        tiles: [*const u8; T],
        totals: &mut [[D::Floats; R]; T],
    ) {
        // SAFETY: all places lie in the unit; the caller's promise.
        unsafe {
            let scales = tiles.map(|tile| D::Floats::load_f16(tile.cast()));
            fetch_ahead::<D::Floats, T>(tiles[0]);
            for block in 0..BLOCKS {
                let codes = tiles.map(|tile| tile.add(CODES + block * CODE_BYTES));
                let multiples = tiles.map(|tile| tile.add(MULTIPLES + 2 * block * LANES));
                if block % 2 == 0 {
                    fetch_ahead::<D::Floats, T>(multiples[0]);
                }
                // Sums of both halves times their multiples stay below 2^24, so they are exact as floats too.
                let mut both = [[D::splat(0); R]; T];
                for half in 0..2 {
                    let mut sums = [[D::splat(0); R]; T];
                    for r in 0..R {
                        let start = D::splat(x.offset_of_half(r, half));
                        for t in 0..T {
                            sums[t][r] = start;
                        }
                    }
                    fetch_ahead::<D::Floats, T>(codes[0].add(NIBBLE_BYTES + half * GROUP));
                    for group in 0..PER_SCALE / 4 {
                        for t in 0..T {
                            let at = codes[t].add(group * GROUP);
                            if half == 0 {
                                fetch_ahead::<D::Floats, T>(at);
                            }
                            let nibbles = D::load(at);
                            let nibbles = if half == 0 { D::lower(nibbles) } else { D::upper(nibbles) };
                            let uppers = D::load(codes[t].add(NIBBLE_BYTES + half * GROUP));
                            let six = D::with_upper(nibbles, uppers, 2 * group, 2);
                            for r in 0..R {
                                sums[t][r] = sums[t][r].add_6(six, x.four(r, half * PER_SCALE / 4 + group));
                            }
                        }
                    }
                    for t in 0..T {
                        for r in 0..R {
                            both[t][r] = sums[t][r].times(multiples[t].add(half * LANES).cast(), both[t][r]);
                        }
                    }
                }
                for t in 0..T {
                    for r in 0..R {
                        let by = scales[t].mul(D::Floats::splat(x.scale(r)));
                        totals[t][r] = both[t][r].to_floats().fma(by, totals[t][r]);
                    }
                }
                x = x.next();
            }
        }
    }
}

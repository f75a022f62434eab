//! The innermost loop: a panel of rows against a few quantised tiles, over all of their blocks.

use super::BLOCK;
use super::activations::ROW_BYTES;
use super::codes::{Q4, Q8, QuantTile, SCALE_BYTES, UNIT_BLOCKS};
#[cfg(target_arch = "x86_64")]
use super::dots::{Avx2Dots, Avx512VnniDots};
use super::dots::{DotIsa, Dots, PortableDots};
use crate::element::LANES;
use crate::simd::Lanes;

/// Bytes of four codes of sixteen rows.
const GROUP: usize = 4 * LANES;
/// How many bytes ahead of use tiles are fetched.
const AHEAD: usize = 4096;

/// Where the results of `R` rows and `T` tiles go, which lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Results {
    pub(super) start: *mut f32,
    /// Numbers between one row and the next.
    pub(super) next_row: usize,
    /// Added at the end, sixteen numbers for each tile; may be null.
    pub(super) bias: *const f32,
}

/// A quantised format, as the innermost loop sees it.
pub(super) trait Codes: QuantTile {
    /// Sums that are free of the offset of stored codes.
    ///
    /// # Safety
    /// The instruction set of `D` is there.
    unsafe fn start<D: Dots>(sum: i32) -> D;

    /// Add the dot products of one block, whose codes are at `tiles`, for `R` rows; what is `ahead` bytes further is
    /// fetched.
    ///
    /// # Safety
    /// The codes of a block are readable at each of `tiles`, `R * BLOCK` codes at `x`; the instruction set of `D` is there.
    unsafe fn add_block<D: Dots, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        ahead: usize,
        sums: &mut [[D; R]; T],
    );
}

/// Codes `4 * group..` of row `r`.
#[inline(always)]
unsafe fn four(x: *const u8, r: usize, group: usize) -> i32 {
    // SAFETY: the caller names a group of a row that is there.
    unsafe { x.add(r * BLOCK + group * 4).cast::<i32>().read() }
}

impl Codes for Q8 {
    #[inline(always)]
    unsafe fn start<D: Dots>(sum: i32) -> D {
        // SAFETY: the caller's promise.
        unsafe { D::start_8(sum) }
    }

    #[inline(always)]
    unsafe fn add_block<D: Dots, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        ahead: usize,
        sums: &mut [[D; R]; T],
    ) {
        for group in 0..BLOCK / 4 {
            for t in 0..T {
                // SAFETY: the caller's promise; a prefetch may name any address.
                unsafe {
                    let at = tiles[t].add(group * GROUP);
                    D::Floats::prefetch(at.wrapping_add(ahead));
                    let codes = D::load(at);
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add_8(codes, four(x, r, group));
                    }
                }
            }
        }
    }
}

impl Codes for Q4 {
    #[inline(always)]
    unsafe fn start<D: Dots>(sum: i32) -> D {
        // SAFETY: the caller's promise.
        unsafe { D::start_4(sum) }
    }

    #[inline(always)]
    unsafe fn add_block<D: Dots, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        ahead: usize,
        sums: &mut [[D; R]; T],
    ) {
        for group in 0..BLOCK / 8 {
            for t in 0..T {
                // SAFETY: the caller's promise; a prefetch may name any address.
                unsafe {
                    let at = tiles[t].add(group * GROUP);
                    D::Floats::prefetch(at.wrapping_add(ahead));
                    let codes = D::load(at);
                    let (lower, upper) = (D::lower(codes), D::upper(codes));
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add_4(lower, four(x, r, group));
                    }
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add_4(upper, four(x, r, group + BLOCK / 8));
                    }
                }
            }
        }
    }
}

/// `results[r][t] = x[r] · w[t] (+ bias[t])` over `units` units, one chain of multiply-adds over their blocks.
///
/// # Safety
/// `x` is a panel of `R` rows, each tile has `units` units, `results` is writable for `R` rows of `T * 16` numbers and
/// `bias` null or readable for `T * 16`; the instruction set of `D` is there.
#[inline(always)]
unsafe fn multiply_panel_body<D: Dots, Q: Codes, const R: usize, const T: usize>(
    x: *const u8,
    tiles: [*const u8; T],
    units: usize,
    results: Results,
) {
    // SAFETY: blocks of the panel and of the tiles are walked in step, and the caller's promise.
    unsafe {
        let mut totals = [[D::Floats::splat(0.0); R]; T];
        let mut x = x;
        let tile_bytes = units * Q::UNIT_BYTES;
        for unit in 0..units {
            let unit = unit * Q::UNIT_BYTES;
            // Behind the end of a tile comes the next one of this loop, with as many tiles between as go together.
            let ahead = if unit + AHEAD < tile_bytes { AHEAD } else { AHEAD + (T - 1) * tile_bytes };
            for half in 0..UNIT_BLOCKS {
                let scales = x.add(R * BLOCK).cast::<f32>();
                let row_sums = x.add(R * (BLOCK + 4)).cast::<i32>();
                let mut sums = [[Q::start::<D>(0); R]; T];
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r] = Q::start(row_sums.add(r).read());
                    }
                }
                let codes = unit + UNIT_BLOCKS * SCALE_BYTES + half * Q::CODE_BYTES;
                Q::add_block(x, tiles.map(|tile| tile.add(codes)), ahead, &mut sums);
                for t in 0..T {
                    let of_tile = D::Floats::load_f16(tiles[t].add(unit + half * SCALE_BYTES).cast());
                    for r in 0..R {
                        let scale = of_tile.mul(D::Floats::splat(scales.add(r).read()));
                        totals[t][r] = sums[t][r].to_floats().fma(scale, totals[t][r]);
                    }
                }
                x = x.add(R * ROW_BYTES);
            }
        }
        for t in 0..T {
            for r in 0..R {
                let mut total = totals[t][r];
                if !results.bias.is_null() {
                    total = total.add(D::Floats::load(results.bias.add(t * LANES)));
                }
                total.store(results.start.add(r * results.next_row + t * LANES));
            }
        }
    }
}

/// [`multiply_panel_body`] on the instruction set `isa`.
///
/// # Safety
/// As the body; `isa` is there.
pub(super) unsafe fn multiply_panel<Q: Codes, const R: usize, const T: usize>(
    isa: DotIsa,
    x: *const u8,
    tiles: [*const u8; T],
    units: usize,
    results: Results,
) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn avx512_vnni<Q: Codes, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        units: usize,
        results: Results,
    ) {
        // SAFETY: the outer caller's promise.
        unsafe { multiply_panel_body::<Avx512VnniDots, Q, R, T>(x, tiles, units, results) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<Q: Codes, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        units: usize,
        results: Results,
    ) {
        // SAFETY: the outer caller's promise.
        unsafe { multiply_panel_body::<Avx2Dots, Q, R, T>(x, tiles, units, results) }
    }
    // SAFETY: the outer caller's promise; the instruction set was detected.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx512Vnni => avx512_vnni::<Q, R, T>(x, tiles, units, results),
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx2 => avx2::<Q, R, T>(x, tiles, units, results),
            DotIsa::Portable => multiply_panel_body::<PortableDots, Q, R, T>(x, tiles, units, results),
        }
    }
}

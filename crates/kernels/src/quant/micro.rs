//! The innermost loop: a panel of rows against a few quantised tiles, over all of their units.

use super::BLOCK;
use super::activations::ROW_BYTES;
#[cfg(target_arch = "x86_64")]
use super::dots::{Avx2Dots, Avx512VnniDots};
use super::dots::{DotIsa, Dots, PortableDots};
use super::tile::QuantTile;
use crate::element::LANES;
use crate::simd::Lanes;

/// Bytes of four codes of sixteen rows.
pub(super) const GROUP: usize = 4 * LANES;
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

/// One block of a panel of `R` rounded rows; `activations.rs` says how it lies.
///
/// # Safety
/// All methods need the block to be part of a panel of `R` rows, and `r < R`.
#[derive(Clone, Copy)]
pub(super) struct Panel<const R: usize>(*const u8);

/// A quantised format, as the innermost loop sees it.
pub(super) trait Codes: QuantTile {
    /// Add the products of one unit of `T` tiles with `R` rows to `totals`, block after block; what is `ahead` bytes
    /// further is fetched.
    ///
    /// # Safety
    /// A unit is readable at each of `tiles`, as many blocks at `x`; the instruction set of `D` is there.
    unsafe fn add_unit<D: Dots, const R: usize, const T: usize>(
        x: Panel<R>,
        tiles: [*const u8; T],
        ahead: usize,
        totals: &mut [[D::Floats; R]; T],
    );
}

// === impl Panel ===

impl<const R: usize> Panel<R> {
    /// Codes `4 * group..` of row `r`.
    #[inline(always)]
    pub(super) unsafe fn four(self, r: usize, group: usize) -> i32 {
        // SAFETY: the type's contract; a row has 32 codes.
        unsafe { self.0.add(r * BLOCK + group * 4).cast::<i32>().read() }
    }

    /// What the codes of row `r` are multiplied with.
    #[inline(always)]
    pub(super) unsafe fn scale(self, r: usize) -> f32 {
        // SAFETY: the type's contract.
        unsafe { self.0.add(R * BLOCK).cast::<f32>().add(r).read() }
    }

    /// The sum of row `r` as it was rounded, negated.
    #[inline(always)]
    pub(super) unsafe fn negative_total(self, r: usize) -> f32 {
        // SAFETY: the type's contract.
        unsafe { self.0.add(R * (BLOCK + 4)).cast::<f32>().add(r).read() }
    }

    /// The sum of the first or the second sixteen codes of row `r`.
    #[inline(always)]
    pub(super) unsafe fn sum_of_half(self, r: usize, half: usize) -> i32 {
        // SAFETY: the type's contract.
        unsafe { i32::from(self.0.add(R * (BLOCK + 8)).cast::<i16>().add(2 * r + half).read()) }
    }

    /// The sum of the codes of row `r`.
    #[inline(always)]
    pub(super) unsafe fn sum(self, r: usize) -> i32 {
        // SAFETY: the type's contract.
        unsafe { self.sum_of_half(r, 0) + self.sum_of_half(r, 1) }
    }

    /// The next block.
    #[inline(always)]
    pub(super) unsafe fn next(self) -> Self {
        Self(self.0.wrapping_add(R * ROW_BYTES))
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
    // SAFETY: units of the panel and of the tiles are walked in step, and the caller's promise.
    unsafe {
        let mut totals = [[D::Floats::splat(0.0); R]; T];
        let tile_bytes = units * Q::UNIT_BYTES;
        for unit in 0..units {
            let at = unit * Q::UNIT_BYTES;
            // Behind the end of a tile comes the next one of this loop, with as many tiles between as go together.
            let ahead = if at + AHEAD < tile_bytes { AHEAD } else { AHEAD + (T - 1) * tile_bytes };
            let x = Panel::<R>(x.add(unit * Q::UNIT_BLOCKS * R * ROW_BYTES));
            Q::add_unit::<D, R, T>(x, tiles.map(|tile| tile.add(at)), ahead, &mut totals);
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

//! The innermost loop: a panel of rows against a few quantised tiles, over all of their units.

use super::BLOCK;
use super::activations::ROW_BYTES;
#[cfg(target_arch = "aarch64")]
use super::dots::NeonDots;
#[cfg(target_arch = "x86_64")]
use super::dots::{Avx2Dots, Avx512VnniDots};
use super::dots::{DotIsa, Dots, PortableDots};
use super::tile::QuantTile;
use crate::element::LANES;
use crate::simd::Lanes;

/// Bytes of four codes of sixteen rows.
pub(super) const GROUP: usize = 4 * LANES;
/// How many bytes ahead of use a stream is fetched.
const AHEAD: usize = 4096;
/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Where the results of `R` rows and `T` tiles go, which lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Results {
    pub(super) start: *mut f32,
    /// Numbers between one row and the next.
    pub(super) next_row: usize,
    /// Added at the end, sixteen numbers for each tile; may be null.
    pub(super) bias: *const f32,
}

/// What several panels that meet the same `T` tiles fetch meanwhile: each a part of the tiles behind these.
#[derive(Clone, Copy)]
pub(super) struct Fetch<const T: usize> {
    /// For each tile.
    pub(super) next: [*const u8; T],
    /// Cache lines while a unit is read.
    pub(super) lines: usize,
}

/// One block of a panel of `R` rounded rows; `activations.rs` says how it lies.
///
/// # Safety
/// All methods need the block to be part of a panel of `R` rows, and `r < R`.
#[derive(Clone, Copy)]
pub(super) struct Panel<const R: usize>(*const u8);

/// A quantised format, as the innermost loop sees it.
pub(super) trait Codes: QuantTile {
    /// Add the products of one unit of `T` tiles with `R` rows to `totals`, block after block.
    ///
    /// # Safety
    /// A unit is readable at each of `tiles`, as many blocks at `x`; the instruction set of `D` is there.
    unsafe fn add_unit<D: Dots, const R: usize, const T: usize>(
        x: Panel<R>,
        tiles: [*const u8; T],
        totals: &mut [[D::Floats; R]; T],
    );
}

/// Fetch what comes behind `at` in a stream, as a single tile is when it is read.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
pub(super) unsafe fn fetch_ahead<L: Lanes, const T: usize>(at: *const u8) {
    if T == 1 {
        // SAFETY: the caller's promise; any address can be fetched.
        unsafe { L::prefetch(at.wrapping_add(AHEAD)) }
    }
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

    /// -32 times the sum of the first or the second sixteen codes of row `r`.
    #[inline(always)]
    pub(super) unsafe fn offset_of_half(self, r: usize, half: usize) -> i32 {
        // SAFETY: the type's contract.
        unsafe { self.0.add(R * (BLOCK + 8)).cast::<i32>().add(2 * r + half).read() }
    }

    /// -32 times the sum of the codes of row `r`.
    #[inline(always)]
    pub(super) unsafe fn offset(self, r: usize) -> i32 {
        // SAFETY: the type's contract.
        unsafe { self.offset_of_half(r, 0) + self.offset_of_half(r, 1) }
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
    fetch: Fetch<T>,
    results: Results,
) {
    // SAFETY: units of the panel and of the tiles are walked in step, and the caller's promise.
    unsafe {
        let mut totals = [[D::Floats::splat(0.0); R]; T];
        for unit in 0..units {
            let at = unit * Q::UNIT_BYTES;
            for t in 0..T {
                for line in 0..fetch.lines {
                    D::Floats::prefetch_far(fetch.next[t].wrapping_add((unit * fetch.lines + line) * LINE));
                }
            }
            let x = Panel::<R>(x.add(unit * Q::UNIT_BLOCKS * R * ROW_BYTES));
            Q::add_unit::<D, R, T>(x, tiles.map(|tile| tile.add(at)), &mut totals);
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
    fetch: Fetch<T>,
    results: Results,
) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
    unsafe fn avx512_vnni<Q: Codes, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        units: usize,
        fetch: Fetch<T>,
        results: Results,
    ) {
        // SAFETY: the outer caller's promise.
        unsafe { multiply_panel_body::<Avx512VnniDots, Q, R, T>(x, tiles, units, fetch, results) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn avx2<Q: Codes, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        units: usize,
        fetch: Fetch<T>,
        results: Results,
    ) {
        // SAFETY: the outer caller's promise.
        unsafe { multiply_panel_body::<Avx2Dots, Q, R, T>(x, tiles, units, fetch, results) }
    }
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn neon_dotprod<Q: Codes, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        units: usize,
        fetch: Fetch<T>,
        results: Results,
    ) {
        // SAFETY: the outer caller's promise.
        unsafe { multiply_panel_body::<NeonDots<true>, Q, R, T>(x, tiles, units, fetch, results) }
    }
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    unsafe fn neon<Q: Codes, const R: usize, const T: usize>(
        x: *const u8,
        tiles: [*const u8; T],
        units: usize,
        fetch: Fetch<T>,
        results: Results,
    ) {
        // SAFETY: the outer caller's promise.
        unsafe { multiply_panel_body::<NeonDots<false>, Q, R, T>(x, tiles, units, fetch, results) }
    }
    // SAFETY: the outer caller's promise; the instruction set was detected.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx512Vnni => avx512_vnni::<Q, R, T>(x, tiles, units, fetch, results),
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx2 => avx2::<Q, R, T>(x, tiles, units, fetch, results),
            #[cfg(target_arch = "aarch64")]
            DotIsa::NeonDotprod => neon_dotprod::<Q, R, T>(x, tiles, units, fetch, results),
            #[cfg(target_arch = "aarch64")]
            DotIsa::Neon => neon::<Q, R, T>(x, tiles, units, fetch, results),
            DotIsa::Portable => multiply_panel_body::<PortableDots, Q, R, T>(x, tiles, units, fetch, results),
        }
    }
}

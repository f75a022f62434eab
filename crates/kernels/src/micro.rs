//! The innermost loop of matrix products and of attention: a few rows against tiles of sixteen columns.
//!
//! Every sum is one chain of fused multiply-adds over `k`, ascending (in weights of bf16, the second of each two comes
//! first). A caller may stop and resume a chain at any even `k` (the running sum is an f32 either way), so how work is
//! cut into blocks never shows in a result.

use crate::element::{Element, LANES};
use crate::simd::{Lanes, multiversion};

/// Rows that fit the registers together with one tile row: twelve sums, two weights and one input of sixteen.
pub(crate) const MAX_ROWS: usize = 6;

/// The left operand.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) start: *const f32,
    /// Numbers between one row and the next, where rows are [`BY_ROW`].
    pub(crate) next_row: usize,
}

/// Order of the left operand: number `k` of row `r` lies at `k * R + r`.
pub(crate) const PACKED: usize = 0;
/// Order of the left operand: number `k` of row `r` lies at `r * next_row + k`.
pub(crate) const BY_ROW: usize = 1;

/// Where `R` rows of sixteen sums per tile are written, and whether the chains begin here.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) start: *mut f32,
    /// Numbers between one row and the next; tiles lie side by side.
    pub(crate) next_row: usize,
    /// Go on from the numbers that lie there; start from zero otherwise.
    pub(crate) resume: bool,
    /// Added at the end, sixteen numbers for each tile; may be null.
    pub(crate) bias: *const f32,
}

/// Memory that will be needed soon: a cache line of each stream and one of each second stream are touched every four
/// steps of `k`.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<const T: usize> {
    pub(crate) streams: [*const u8; T],
    pub(crate) seconds: [*const u8; T],
    /// Bytes between one touch and the next.
    pub(crate) step: usize,
}

// === impl Ahead ===

impl<const T: usize> Ahead<T> {
    /// Two lines of each stream, side by side.
    pub(crate) fn pairs(streams: [*const u8; T], step: usize) -> Self {
        Self { streams, seconds: streams.map(|stream| stream.wrapping_add(64)), step }
    }
}

// === impl Sums ===

impl Sums {
    /// The sums to go on from.
    ///
    /// # Safety
    /// `start` is readable for `R` rows of `T * 16` where sums are resumed; the instruction set of `L` is there.
    #[inline(always)]
    pub(crate) unsafe fn begin<L: Lanes, const R: usize, const T: usize>(&self) -> [[L; R]; T] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[L::splat(0.0); R]; T];
            if self.resume {
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r] = L::load(self.start.add(r * self.next_row + t * LANES));
                    }
                }
            }
            sums
        }
    }

    /// Add the bias and write the sums.
    ///
    /// # Safety
    /// `start` is writable for `R` rows of `T * 16`, `bias` null or readable for `T * 16`; the instruction set of `L`
    /// is there.
    #[inline(always)]
    pub(crate) unsafe fn end<L: Lanes, const R: usize, const T: usize>(&self, mut sums: [[L; R]; T]) {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.bias.is_null() {
                for t in 0..T {
                    for r in 0..R {
                        sums[t][r] = sums[t][r].add(L::load(self.bias.add(t * LANES)));
                    }
                }
            }
            for t in 0..T {
                for r in 0..R {
                    sums[t][r].store(self.start.add(r * self.next_row + t * LANES));
                }
            }
        }
    }
}

/// `sums[r][t] (+)= x[r] · w[t] (+ bias[t])` over `len` steps of `k`; tile `t` holds `[len][16]` numbers.
///
/// # Safety
/// `x` must be readable for `R` rows and each tile for `len * 16` elements, `sums` writable for `R` rows of
/// `T * 16` and readable if it resumes, `bias` null or readable for `T * 16`; the instruction set of `L` is there.
#[inline(always)]
unsafe fn accumulate_body<L: Lanes, E: Element, const ORDER: usize, const R: usize, const T: usize>(
    x: Rows,
    tiles: [*const E; T],
    len: usize,
    ahead: Ahead<T>,
    out: Sums,
) {
    // SAFETY: `k < len`, `r < R`, `t < T`, and the caller's promise. A prefetch may name any address.
    unsafe {
        let mut sums = out.begin::<L, R, T>();
        let mut k = 0;
        while k + 4 <= len {
            for t in 0..T {
                L::prefetch(ahead.streams[t].wrapping_add(k / 4 * ahead.step));
                L::prefetch(ahead.seconds[t].wrapping_add(k / 4 * ahead.step));
            }
            two_steps::<L, E, ORDER, R, T>(x, tiles, k, &mut sums);
            two_steps::<L, E, ORDER, R, T>(x, tiles, k + 2, &mut sums);
            k += 4;
        }
        if size_of::<E>() == 1 {
            // The scales behind the codes.
            for t in 0..T {
                L::prefetch(ahead.streams[t].wrapping_add(k / 4 * ahead.step));
                L::prefetch(ahead.seconds[t].wrapping_add(k / 4 * ahead.step));
            }
        }
        if k + 2 <= len {
            two_steps::<L, E, ORDER, R, T>(x, tiles, k, &mut sums);
            k += 2;
        }
        if k < len {
            for t in 0..T {
                link::<L, ORDER, R>(x, E::load_even(tiles[t], k), k, &mut sums[t]);
            }
        }
        out.end(sums);
    }
}
multiversion! {
    pub(crate) unsafe fn accumulate [E: Element; ORDER, R, T] (
        x: Rows, tiles: [*const E; T], len: usize, ahead: Ahead<T>, out: Sums,
    ) = accumulate_body
}

/// `sums[r][t] += x[r] · w[t]` where each `w[t]` runs through `tiles`, sixteen steps of `k` in each.
///
/// Tile `t` of the result begins `first + t * 256` elements into every one of `tiles`; rows of `x` are [`BY_ROW`]. `later`, at
/// least as many and at least four pointers, is what will be read after all of `tiles`.
///
/// # Safety
/// `x` must be readable for `R` rows of `tiles.len() * 16`, each tile for `first + T * 256` elements, `out` readable
/// and writable for `R` rows of `T * 16`; the instruction set of `L` is there.
#[inline(always)]
unsafe fn accumulate_list_body<L: Lanes, E: Element, const R: usize, const T: usize>(
    x: Rows,
    tiles: &[*const E],
    later: &[*const E],
    first: usize,
    out: Sums,
) {
    // SAFETY: `k < 16`, `r < R`, `t < T`, and the caller's promise. A prefetch may name any address.
    unsafe {
        let mut sums = [[L::splat(0.0); R]; T];
        for t in 0..T {
            for r in 0..R {
                sums[t][r] = L::load(out.start.add(r * out.next_row + t * LANES));
            }
        }
        // As many bytes as f32 have in one tile: narrow ones are computed with sooner than memory answers.
        let ahead = size_of::<f32>() / size_of::<E>();
        let mut x = x;
        for i in 0..tiles.len() {
            let next =
                if i + ahead < tiles.len() { tiles[i + ahead] } else { later[i + ahead - tiles.len()] };
            let next = next.wrapping_add(first).cast::<u8>();
            // Codes of eight bits fill a line in four steps, so there is one to spare.
            let second =
                if size_of::<E>() == 1 { later[i].wrapping_add(first).cast() } else { next.wrapping_add(64) };
            let mut starts = [tiles[i]; T];
            for t in 0..T {
                starts[t] = tiles[i].add(first + t * LANES * LANES);
            }
            let mut k = 0;
            while k < LANES {
                for t in 0..T {
                    let at = (t * LANES + k) * LANES * size_of::<E>();
                    L::prefetch(next.wrapping_add(at));
                    L::prefetch(second.wrapping_add(at));
                }
                two_steps::<L, E, BY_ROW, R, T>(x, starts, k, &mut sums);
                two_steps::<L, E, BY_ROW, R, T>(x, starts, k + 2, &mut sums);
                k += 4;
            }
            if size_of::<E>() == 1 {
                // The scales behind the codes.
                L::prefetch(next.wrapping_add(T * LANES * LANES));
                L::prefetch(second.wrapping_add(T * LANES * LANES));
            }
            x.start = x.start.add(LANES);
        }
        for t in 0..T {
            for r in 0..R {
                sums[t][r].store(out.start.add(r * out.next_row + t * LANES));
            }
        }
    }
}
multiversion! {
    pub(crate) unsafe fn accumulate_list [E: Element; R, T] (
        x: Rows, tiles: &[*const E], later: &[*const E], first: usize, out: Sums,
    ) = accumulate_list_body
}

/// First row of part `part` when `n` rows are cut into `count` parts whose sizes differ by at most one.
pub(crate) fn first_row(n: usize, count: usize, part: usize) -> usize {
    part * (n / count) + part.min(n % count)
}

/// Two links of every chain.
///
/// # Safety
/// As [`accumulate`], with even `k` and `k + 1 < len`.
#[inline(always)]
unsafe fn two_steps<L: Lanes, E: Element, const ORDER: usize, const R: usize, const T: usize>(
    x: Rows,
    tiles: [*const E; T],
    k: usize,
    sums: &mut [[L; R]; T],
) {
    for t in 0..T {
        // SAFETY: the caller's promise.
        unsafe {
            if E::ODD_FIRST {
                link::<L, ORDER, R>(x, E::load_odd(tiles[t], k), k + 1, &mut sums[t]);
                link::<L, ORDER, R>(x, E::load_even(tiles[t], k), k, &mut sums[t]);
            } else {
                link::<L, ORDER, R>(x, E::load_even(tiles[t], k), k, &mut sums[t]);
                link::<L, ORDER, R>(x, E::load_odd(tiles[t], k), k + 1, &mut sums[t]);
            }
        }
    }
}

/// One link of the chains of one tile, whose row `k` is `w`.
///
/// # Safety
/// `x` must be readable for `R` rows of more than `k` numbers; the instruction set of `L` is there.
#[inline(always)]
unsafe fn link<L: Lanes, const ORDER: usize, const R: usize>(x: Rows, w: L, k: usize, sums: &mut [L; R]) {
    for r in 0..R {
        // SAFETY: the caller's promise.
        unsafe {
            let at = if ORDER == PACKED { k * R + r } else { r * x.next_row + k };
            sums[r] = w.fma(L::splat(*x.start.add(at)), sums[r]);
        }
    }
}

/// Tiles that six rows meet at once where there are registers for it.
pub(crate) const WIDE_TILES: usize = 4;

/// Evaluate `$body` with the constant `R` that equals `$rows`, from 1 to [`MAX_ROWS`].
macro_rules! with_num_rows {
    ($rows:expr, $R:ident => $body:expr) => {
        match $rows {
            1 => with_num_rows!(@ 1, $R, $body),
            2 => with_num_rows!(@ 2, $R, $body),
            3 => with_num_rows!(@ 3, $R, $body),
            4 => with_num_rows!(@ 4, $R, $body),
            5 => with_num_rows!(@ 5, $R, $body),
            _ => with_num_rows!(@ 6, $R, $body),
        }
    };
    (@ $r:literal, $R:ident, $body:expr) => {{
        const $R: usize = $r;
        $body
    }};
}
pub(crate) use with_num_rows;

/// Evaluate `$body` with the constant `R` that equals `$rows`, from 1 to [`MAX_ROWS`], and with `T`, the tiles that
/// so few rows leave registers for on instruction set `$isa`; they hide the latency of the additions.
macro_rules! with_rows {
    ($isa:expr, $rows:expr, $R:ident, $T:ident => $body:expr) => {
        if $isa.has_many_registers() {
            match $rows {
                1 => with_rows!(@ 1, $crate::micro::WIDE_TILES, $R, $T, $body),
                2 => with_rows!(@ 2, $crate::micro::WIDE_TILES, $R, $T, $body),
                3 => with_rows!(@ 3, $crate::micro::WIDE_TILES, $R, $T, $body),
                4 => with_rows!(@ 4, $crate::micro::WIDE_TILES, $R, $T, $body),
                5 => with_rows!(@ 5, $crate::micro::WIDE_TILES, $R, $T, $body),
                _ => with_rows!(@ 6, $crate::micro::WIDE_TILES, $R, $T, $body),
            }
        } else {
            match $rows {
                1 => with_rows!(@ 1, 4, $R, $T, $body),
                2 => with_rows!(@ 2, 2, $R, $T, $body),
                3 => with_rows!(@ 3, 1, $R, $T, $body),
                4 => with_rows!(@ 4, 1, $R, $T, $body),
                5 => with_rows!(@ 5, 1, $R, $T, $body),
                _ => with_rows!(@ 6, 1, $R, $T, $body),
            }
        }
    };
    (@ $r:literal, $t:expr, $R:ident, $T:ident, $body:expr) => {{
        const $R: usize = $r;
        #[allow(dead_code, reason = "not every caller has several tiles at hand")]
        const $T: usize = $t;
        $body
    }};
}
pub(crate) use with_rows;

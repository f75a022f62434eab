//! What happens to one row of scores or sums, sixteen lanes at a time.

use std::ops::Range;

use crate::element::LANES;
use crate::simd::{Lanes, exp, multiversion, tanh};

/// What one query has collected: the greatest score, the sum of `e^(score - greatest)`, and, elsewhere, the
/// values weighted by the same.
#[derive(Clone, Copy, Default)]
pub(super) struct Collected {
    pub(super) max: f32,
    pub(super) total: f32,
}

/// Turn scores into weights `e^(score - max)`, in place; lanes outside of `seen` get weight 0.
///
/// `seen` counts from the first score; whole vectors that hold none of it are left alone.
///
/// # Safety
/// `scores` is valid up to the end of the vector in which `seen` ends; `seen` is not empty.
#[inline(always)]
unsafe fn softmax_row_body<L: Lanes>(scores: *mut f32, seen: Range<usize>, collected: &mut Collected) {
    let vectors = seen.start / LANES..seen.end.div_ceil(LANES);
    // SAFETY: the vectors are within the bounds that the caller promised.
    unsafe {
        let nothing = L::splat(f32::NEG_INFINITY);
        let mut greatest = nothing;
        for i in vectors.clone() {
            let at = scores.add(i * LANES);
            let mut v = L::load(at);
            let first = i * LANES;
            if first < seen.start || first + LANES > seen.end {
                let to = seen.end - first;
                v = v.keep_range(
                    seen.start.saturating_sub(first),
                    if to < LANES { to } else { LANES },
                    nothing,
                );
            }
            v.store(at);
            greatest = v.max(greatest);
        }
        let max = greatest.greatest();
        let mut sum = L::splat(0.0);
        for i in vectors {
            let at = scores.add(i * LANES);
            let weight = exp(L::load(at).sub(L::splat(max)));
            weight.store(at);
            sum = sum.add(weight);
        }
        *collected = Collected { max, total: sum.sum() };
    }
}
multiversion! {
    pub(super) unsafe fn softmax_row(
        scores: *mut f32, seen: Range<usize>, collected: &mut Collected,
    ) = softmax_row_body
}

/// Multiply `rows` rows of numbers by `scales`, sixteen each, one after the other.
///
/// # Safety
/// Each of `scales` is readable for sixteen elements; `numbers` is valid for rows of as many, `next_row` apart.
#[inline(always)]
unsafe fn scale_rows_body<L: Lanes>(numbers: *mut f32, rows: usize, next_row: usize, scales: &[*const f32]) {
    for i in 0..scales.len() {
        // SAFETY: the caller's promise.
        unsafe {
            let scale = L::load(scales[i]);
            for row in 0..rows {
                let at = numbers.add(row * next_row + i * LANES);
                L::load(at).mul(scale).store(at);
            }
        }
    }
}
multiversion! {
    pub(super) unsafe fn scale_rows(
        numbers: *mut f32, rows: usize, next_row: usize, scales: &[*const f32],
    ) = scale_rows_body
}

/// Sixteen scores become `cap * tanh(score / cap)`.
///
/// # Safety
/// `scores` is valid for sixteen elements.
#[inline(always)]
unsafe fn cap_scores_body<L: Lanes>(scores: *mut f32, cap: f32) {
    // SAFETY: the caller's promise.
    unsafe { tanh(L::load(scores).div(L::splat(cap))).mul(L::splat(cap)).store(scores) }
}
multiversion! { pub(super) unsafe fn cap_scores(scores: *mut f32, cap: f32) = cap_scores_body }

/// Add what a span has collected to what the spans before it have.
///
/// # Safety
/// `sums` and `more_sums` are valid for `len` elements, a multiple of sixteen.
#[inline(always)]
unsafe fn merge_row_body<L: Lanes>(
    collected: &mut Collected,
    sums: *mut f32,
    more: Collected,
    more_sums: *const f32,
    len: usize,
) {
    let max = if more.max > collected.max { more.max } else { collected.max };
    // SAFETY: `i < len`.
    unsafe {
        let old = exp(L::splat(collected.max - max));
        let new = exp(L::splat(more.max - max));
        for i in (0..len).step_by(LANES) {
            let scaled = L::load(more_sums.add(i)).mul(new);
            L::load(sums.add(i)).fma(old, scaled).store(sums.add(i));
        }
        let mut totals = [0.0; LANES];
        L::splat(collected.total).fma(old, L::splat(more.total).mul(new)).store(totals.as_mut_ptr());
        *collected = Collected { max, total: totals[0] };
    }
}
multiversion! {
    pub(super) unsafe fn merge_row(
        collected: &mut Collected, sums: *mut f32, more: Collected, more_sums: *const f32, len: usize,
    ) = merge_row_body
}

/// `out = sums / total`.
///
/// # Safety
/// `sums` is valid for `len` rounded up to a multiple of sixteen, `out` for `len`.
#[inline(always)]
unsafe fn finish_row_body<L: Lanes>(sums: *const f32, total: f32, out: *mut f32, len: usize) {
    // SAFETY: `i < len`, and `sums` is padded.
    unsafe {
        for i in (0..len).step_by(LANES) {
            L::load(sums.add(i)).div(L::splat(total)).store_first(out.add(i), len - i);
        }
    }
}
multiversion! {
    pub(super) unsafe fn finish_row(sums: *const f32, total: f32, out: *mut f32, len: usize) = finish_row_body
}

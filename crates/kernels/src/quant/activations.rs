//! Rounding rows of activations to eight bits, laid out for the innermost loop.
//!
//! Rows go in panels of up to six. Block after block, a panel holds 32 codes of each row, then each row's scale (f32),
//! then the negated product of each row's scale and sum of codes (f32), then -32 times the sums of each row's first and
//! second sixteen codes (i32 each): 48 bytes for a row and block.

use super::BLOCK;
use crate::element::LANES;
use crate::simd::{Lanes, multiversion};

/// Bytes of one block of one row.
pub(super) const ROW_BYTES: usize = BLOCK + 4 + 4 + 2 * 4;

/// Added and taken away again, this rounds to a whole number, ties to even: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;

/// Quantise `blocks` blocks of a row of `len` numbers into row `r` of a panel of `rows`; numbers behind the last are zero.
///
/// # Safety
/// `x` is readable for `len` numbers, `panel` writable for `blocks * rows * ROW_BYTES` bytes and aligned to four;
/// `r < rows`; the instruction set of `L` is there.
#[inline(always)]
unsafe fn quantise_row_body<L: Lanes>(
    x: *const f32,
    len: usize,
    blocks: usize,
    panel: *mut u8,
    rows: usize,
    r: usize,
) {
    for b in 0..blocks {
        let start = b * BLOCK;
        let left = len.saturating_sub(start).min(BLOCK);
        // SAFETY: at most `len` numbers are read; the block and the row lie in the panel.
        unsafe {
            let block = panel.add(b * rows * ROW_BYTES);
            let codes = block.add(r * BLOCK).cast::<i8>();
            let scale = block.add(rows * BLOCK).cast::<f32>().add(r);
            let negative_total = block.add(rows * (BLOCK + 4)).cast::<f32>().add(r);
            let offsets = block.add(rows * (BLOCK + 8)).cast::<[i32; 2]>().add(r);
            let from = x.wrapping_add(start);
            let low = L::load_first(from, left.min(LANES));
            let high = L::load_first(from.wrapping_add(LANES), left.saturating_sub(LANES));
            let zero = L::splat(0.0);
            let magnitude = low.max(zero.sub(low)).max(high.max(zero.sub(high))).greatest();
            // Zero for finite numbers; a NaN or an infinity must not vanish in a code.
            let poison = low.mul(zero).add(high.mul(zero)).sum();
            let step = magnitude / 127.0;
            let by = L::splat(if step > 0.0 && step.is_finite() { 127.0 / magnitude } else { 0.0 });
            let rounder = L::splat(ROUNDER);
            let (mut whole, mut halves) = ([0.0f32; BLOCK], [0i32; 2]);
            low.fma(by, rounder).store(whole.as_mut_ptr());
            high.fma(by, rounder).store(whole.as_mut_ptr().add(LANES));
            for (half, sum) in halves.iter_mut().enumerate() {
                for k in half * LANES..(half + 1) * LANES {
                    // The lower bits are the whole number, as vectors convert it; where a number is none they are anything.
                    let code = whole[k].to_bits().wrapping_sub(ROUNDER.to_bits()) as i8;
                    codes.add(k).write(code);
                    *sum += i32::from(code);
                }
            }
            scale.write(step + poison);
            negative_total.write(-step * (halves[0] + halves[1]) as f32);
            offsets.write(halves.map(|sum| -32 * sum));
        }
    }
}
multiversion! {
    pub(super) unsafe fn quantise_row(
        x: *const f32, len: usize, blocks: usize, panel: *mut u8, rows: usize, r: usize,
    ) = quantise_row_body
}

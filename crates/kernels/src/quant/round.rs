//! Rounding to codes: the scale (and the minimum) of a few numbers that lose least, by the sum of squared errors.
//!
//! Sixteen trials go side by side, a lane each: other runs of numbers, or other scales for one run. Lanes never mix, so
//! nothing is summed across them. Sums run over the numbers of a run as [`SHARE`] says.

use crate::element::LANES;
use crate::simd::{Lanes, ROUNDER};

/// Numbers of a run that are this far apart are added to each other before they are added to the rest: what files hold
/// depends on that order.
const SHARE: usize = LANES;

/// Number `k` of the run of each lane.
type Columns<const LEN: usize> = [[f32; LANES]; LEN];

/// The nearest whole number from `least` to `most`; `least` for what is no number.
#[inline(always)]
pub(super) fn whole(x: f32, least: f32, most: f32) -> f32 {
    let x = if x > least { x } else { least };
    let x = if x < most { x } else { most };
    (x + ROUNDER) - ROUNDER
}

/// One over `step`, or zero where that is not finite.
#[inline(always)]
pub(super) fn inverse(step: f32) -> f32 {
    let by = step.recip();
    if by.is_finite() { by } else { 0.0 }
}

/// The least and the greatest of zero and these numbers. Both are no numbers where one of these is not finite: such a
/// weight must not vanish in a code.
#[inline(always)]
fn range(numbers: &[f32]) -> (f32, f32) {
    let (mut low, mut high, mut poison) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    for sixteen in numbers.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let x = sixteen[lane];
            low[lane] = if x < low[lane] { x } else { low[lane] };
            high[lane] = if x > high[lane] { x } else { high[lane] };
            poison[lane] += x * 0.0;
        }
    }
    let poison: f32 = poison.into_iter().sum();
    (low.into_iter().fold(0.0, f32::min) + poison, high.into_iter().fold(0.0, f32::max) + poison)
}

/// The number of greatest magnitude, with its sign; no number where one is not finite.
#[inline(always)]
pub(super) fn greatest(numbers: &[f32]) -> f32 {
    let (low, high) = range(numbers);
    if -low > high { low } else { high }
}

/// [`range`] of the run of each lane.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn ranges<L: Lanes, const LEN: usize>(
    columns: &Columns<LEN>,
    numbers: &[f32],
) -> ([f32; LANES], [f32; LANES]) {
    let (mut lows, mut highs, mut poisons) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    // SAFETY: all arrays have sixteen numbers; the caller's promise.
    unsafe {
        let zero = L::splat(0.0);
        let (mut low, mut high, mut poison) = (zero, zero, zero);
        for column in columns {
            let x = L::load(column.as_ptr());
            low = x.min(low);
            high = x.max(high);
            poison = poison.add(x.mul(zero));
        }
        low.store(lows.as_mut_ptr());
        high.store(highs.as_mut_ptr());
        poison.store(poisons.as_mut_ptr());
    }
    for lane in 0..LANES {
        if poisons[lane] != 0.0 {
            (lows[lane], highs[lane]) = range(run(numbers, LEN, lane));
        }
    }
    (lows, highs)
}

/// The run of a lane, of which there are as many as fit `numbers`, over and over.
#[inline(always)]
fn run(numbers: &[f32], len: usize, lane: usize) -> &[f32] {
    &numbers[lane % (numbers.len() / len) * len..][..len]
}

#[inline(always)]
fn columns<const LEN: usize>(numbers: &[f32]) -> Columns<LEN> {
    let mut columns = [[0.0; LANES]; LEN];
    for lane in 0..LANES {
        for (column, x) in columns.iter_mut().zip(run(numbers, LEN, lane)) {
            column[lane] = *x;
        }
    }
    columns
}

/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn wholes<L: Lanes>(x: L, least: L, most: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let rounder = L::splat(ROUNDER);
        x.max(least).min(most).add(rounder).sub(rounder)
    }
}

#[inline(always)]
fn inverses(steps: &[f32; LANES]) -> [f32; LANES] {
    let mut inverses = [0.0; LANES];
    for lane in 0..LANES {
        inverses[lane] = inverse(steps[lane]);
    }
    inverses
}

/// The sum of squared errors of `steps` times codes from `least` to `most`, less `minima`.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn errors<L: Lanes, const LEN: usize>(
    columns: &Columns<LEN>,
    steps: &[f32; LANES],
    minima: &[f32; LANES],
    (least, most): (f32, f32),
) -> [f32; LANES] {
    let by = inverses(steps);
    let mut errors = [0.0; LANES];
    // SAFETY: all arrays have sixteen numbers; the caller's promise.
    unsafe {
        let (step, minimum, by) = (L::load(steps.as_ptr()), L::load(minima.as_ptr()), L::load(by.as_ptr()));
        let (least, most) = (L::splat(least), L::splat(most));
        let mut sum = L::splat(0.0);
        for k in 0..SHARE {
            let mut share = L::splat(0.0);
            for column in columns.iter().skip(k).step_by(SHARE) {
                let x = L::load(column.as_ptr()).add(minimum);
                let off = x.sub(step.mul(wholes(x.mul(by), least, most)));
                share = share.add(off.mul(off));
            }
            sum = sum.add(share);
        }
        sum.store(errors.as_mut_ptr());
    }
    errors
}

/// For one run of `LEN` numbers: of the number of greatest magnitude over each of `divisors` (sixteen at most), made
/// storable by `stored`, the step that loses least with codes from `least` to `most`.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
pub(super) unsafe fn best_step<L: Lanes, const LEN: usize>(
    numbers: &[f32],
    divisors: &[f32],
    limits: (f32, f32),
    stored: fn(&mut [f32; LANES]),
) -> f32 {
    let greatest = greatest(numbers);
    // Zero, or no number, which no step improves on.
    let mut best = (f32::INFINITY, greatest * 0.0);
    let mut steps = [0.0; LANES];
    for (step, divisor) in steps.iter_mut().zip(divisors) {
        *step = greatest / divisor;
    }
    stored(&mut steps);
    // SAFETY: the caller's promise.
    let errors = unsafe { errors::<L, LEN>(&columns(numbers), &steps, &[0.0; LANES], limits) };
    for lane in 0..divisors.len() {
        if errors[lane] < best.0 {
            best = (errors[lane], steps[lane]);
        }
    }
    best.1
}

/// The same for sixteen runs, with every step storable.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
pub(super) unsafe fn best_steps<L: Lanes, const LEN: usize>(
    numbers: &[f32],
    divisors: &[f32],
    limits: (f32, f32),
) -> [f32; LANES] {
    let columns = columns::<LEN>(numbers);
    // SAFETY: the caller's promise.
    let (lows, highs) = unsafe { ranges::<L, LEN>(&columns, numbers) };
    let (mut greatest, mut best, mut least) = ([0.0; LANES], [0.0; LANES], [f32::INFINITY; LANES]);
    for lane in 0..LANES {
        greatest[lane] = if -lows[lane] > highs[lane] { lows[lane] } else { highs[lane] };
        best[lane] = greatest[lane] * 0.0;
    }
    for divisor in divisors {
        let mut steps = [0.0; LANES];
        for lane in 0..LANES {
            steps[lane] = greatest[lane] / divisor;
        }
        // SAFETY: the caller's promise.
        let errors = unsafe { errors::<L, LEN>(&columns, &steps, &[0.0; LANES], limits) };
        for lane in 0..LANES {
            let better = errors[lane] < least[lane];
            best[lane] = if better { steps[lane] } else { best[lane] };
            least[lane] = if better { errors[lane] } else { least[lane] };
        }
    }
    best
}

/// Runs whose lines are searched together, each with two stretches at a time.
pub(super) const RUNS: usize = LANES / 2;

/// Stretches of the codes over the range of the numbers that are tried for a step and a minimum, in turn.
const STRETCHES: [[f32; 2]; 4] = [[0.0, 0.5], [-0.5, -1.0], [0.25, -0.25], [-1.5, -1.5]];

/// For each of eight runs, the step and the minimum (at least zero) so that `step * code - minimum` with codes up to `most`
/// loses least.
///
/// Codes are those of a guess, step and minimum then the best ones for these codes (linear regression).
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
pub(super) unsafe fn best_lines<L: Lanes, const LEN: usize>(
    numbers: &[f32],
    most: f32,
) -> [(f32, f32); RUNS] {
    let columns = columns::<LEN>(numbers);
    // SAFETY: the caller's promise.
    let ((lows, highs), sums) = unsafe { (ranges::<L, LEN>(&columns, numbers), sums::<L, LEN>(&columns)) };
    let mut widths = [0.0; LANES];
    for lane in 0..LANES {
        widths[lane] = highs[lane] - lows[lane];
    }
    let (mut lines, mut least) = ([(0.0, 0.0); RUNS], [f32::INFINITY; RUNS]);
    for run in 0..RUNS {
        lines[run] = (widths[run] / most, -lows[run]);
    }
    for pair in STRETCHES {
        let mut by = [0.0; LANES];
        for lane in 0..LANES {
            by[lane] = (most + pair[lane / RUNS]) / widths[lane];
        }
        // SAFETY: the caller's promise.
        let (steps, minima, errors) = unsafe {
            let guess = guess::<L, LEN>(&columns, &lows, &by, most);
            let (steps, minima) = guess.lines(&sums, LEN);
            (steps, minima, errors::<L, LEN>(&columns, &steps, &minima, (0.0, most)))
        };
        for lane in 0..LANES {
            // A line that rises, and is one.
            let run = lane % RUNS;
            if steps[lane] > 0.0 && errors[lane] < least[run] {
                (least[run], lines[run]) = (errors[lane], (steps[lane], minima[lane]));
            }
        }
    }
    for run in 0..RUNS {
        if !(widths[run] > 0.0 && widths[run].is_finite()) {
            // All zero, or no number.
            lines[run] = (widths[run] * 0.0, -lows[run]);
        }
    }
    lines
}

/// Sums over the codes of a guess.
struct Guess {
    codes: [f32; LANES],
    squares: [f32; LANES],
    /// Of codes and numbers.
    products: [f32; LANES],
}

/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn sums<L: Lanes, const LEN: usize>(columns: &Columns<LEN>) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    // SAFETY: all arrays have sixteen numbers; the caller's promise.
    unsafe {
        let mut sum = L::splat(0.0);
        for k in 0..SHARE {
            let mut share = L::splat(0.0);
            for column in columns.iter().skip(k).step_by(SHARE) {
                share = share.add(L::load(column.as_ptr()));
            }
            sum = sum.add(share);
        }
        sum.store(sums.as_mut_ptr());
    }
    sums
}

/// Codes are the whole numbers up to `most` that are nearest to what a number is above the least one, times `by`.
///
/// # Safety
/// The instruction set of `L` is there.
#[inline(always)]
unsafe fn guess<L: Lanes, const LEN: usize>(
    columns: &Columns<LEN>,
    lows: &[f32; LANES],
    by: &[f32; LANES],
    most: f32,
) -> Guess {
    let mut guess = Guess { codes: [0.0; LANES], squares: [0.0; LANES], products: [0.0; LANES] };
    // SAFETY: all arrays have sixteen numbers; the caller's promise.
    unsafe {
        let (low, by) = (L::load(lows.as_ptr()), L::load(by.as_ptr()));
        let (zero, most) = (L::splat(0.0), L::splat(most));
        let (mut codes, mut squares, mut products) = (zero, zero, zero);
        for k in 0..SHARE {
            let mut share = [zero; 3];
            for column in columns.iter().skip(k).step_by(SHARE) {
                let x = L::load(column.as_ptr());
                let code = wholes(x.sub(low).mul(by), zero, most);
                share = [share[0].add(code), share[1].add(code.mul(code)), share[2].add(code.mul(x))];
            }
            (codes, squares, products) = (codes.add(share[0]), squares.add(share[1]), products.add(share[2]));
        }
        codes.store(guess.codes.as_mut_ptr());
        squares.store(guess.squares.as_mut_ptr());
        products.store(guess.products.as_mut_ptr());
    }
    guess
}

// === impl Guess ===

impl Guess {
    /// Steps and minima that lose least with these codes; a step that is no number where there is none.
    #[inline(always)]
    fn lines(&self, sums: &[f32; LANES], len: usize) -> ([f32; LANES], [f32; LANES]) {
        let n = len as f32;
        let (mut steps, mut minima) = ([0.0; LANES], [0.0; LANES]);
        for lane in 0..LANES {
            let (codes, squares, products) = (self.codes[lane], self.squares[lane], self.products[lane]);
            let spread = n * squares - codes * codes;
            let step = (n * products - codes * sums[lane]) / spread;
            let minimum = (step * codes - sums[lane]) / n;
            let negative = minimum < 0.0;
            let step = if negative { products / squares } else { step };
            steps[lane] = if spread <= 0.0 { f32::NAN } else { step };
            minima[lane] = if negative { 0.0 } else { minimum };
        }
        (steps, minima)
    }
}

#[cfg(test)]
mod tests;

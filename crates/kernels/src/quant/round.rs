//! Rounding to codes: the scale (and the minimum) of a few numbers that lose least, by the sum of squared errors.
//!
//! Plain Rust in loops over sixteen lanes, which the compiler makes vectors of where the caller has them.

use crate::element::LANES;

/// Added and taken away again, this rounds to a whole number, ties to even: 1.5 * 2^23.
const ROUNDER: f32 = 12_582_912.0;

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
pub(super) fn range(numbers: &[f32]) -> (f32, f32) {
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

/// The sum of squared errors of `step` times codes from `least` to `most`.
#[inline(always)]
fn error(numbers: &[f32], step: f32, least: f32, most: f32) -> f32 {
    let (by, mut errors) = (inverse(step), [0.0f32; LANES]);
    for sixteen in numbers.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let off = sixteen[lane] - step * whole(sixteen[lane] * by, least, most);
            errors[lane] += off * off;
        }
    }
    errors.into_iter().sum()
}

/// Of the number of greatest magnitude over each of `divisors`, made storable by `stored`, the step that loses least with codes
/// from `least` to `most`.
#[inline(always)]
pub(super) fn best_step(
    numbers: &[f32],
    divisors: &[f32],
    least: f32,
    most: f32,
    stored: impl Fn(f32) -> f32,
) -> f32 {
    let greatest = greatest(numbers);
    // Zero, or no number.
    let mut best = (f32::INFINITY, greatest * 0.0);
    for divisor in divisors {
        let step = stored(greatest / divisor);
        let error = error(numbers, step, least, most);
        if error < best.0 {
            best = (error, step);
        }
    }
    best.1
}

/// Stretches of the codes over the range of the numbers that are tried for a step and a minimum.
const STRETCHES: [f32; 7] = [0.0, 0.5, -0.5, -1.0, 0.25, -0.25, -1.5];

/// The step and the minimum (at least zero) so that `step * code - minimum` with codes up to `most` loses least.
///
/// Codes are those of a guess, step and minimum then the best ones for these codes (linear regression).
#[inline(always)]
pub(super) fn best_line(numbers: &[f32], most: f32) -> (f32, f32) {
    let (low, high) = range(numbers);
    let width = high - low;
    if !(width > 0.0 && width.is_finite()) {
        // All zero, or no number.
        return (width * 0.0, -low);
    }
    let n = numbers.len() as f32;
    let mut best = (f32::INFINITY, width / most, -low);
    for stretch in STRETCHES {
        let by = (most + stretch) / width;
        let (mut codes, mut squares, mut sums, mut products) =
            ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
        for sixteen in numbers.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                let x = sixteen[lane];
                let code = whole((x - low) * by, 0.0, most);
                codes[lane] += code;
                squares[lane] += code * code;
                sums[lane] += x;
                products[lane] += code * x;
            }
        }
        let [codes, squares, sum, products] =
            [codes, squares, sums, products].map(|lanes| lanes.into_iter().sum::<f32>());
        let spread = n * squares - codes * codes;
        if spread <= 0.0 {
            continue;
        }
        let mut step = (n * products - codes * sum) / spread;
        let mut minimum = (step * codes - sum) / n;
        if minimum < 0.0 {
            (step, minimum) = (products / squares, 0.0);
        }
        // A line that rises, and is one.
        let error = if step > 0.0 { line_error(numbers, step, minimum, most) } else { f32::INFINITY };
        if error < best.0 {
            best = (error, step, minimum);
        }
    }
    (best.1, best.2)
}

#[inline(always)]
fn line_error(numbers: &[f32], step: f32, minimum: f32, most: f32) -> f32 {
    let (by, mut errors) = (inverse(step), [0.0f32; LANES]);
    for sixteen in numbers.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            let x = sixteen[lane] + minimum;
            let off = x - step * whole(x * by, 0.0, most);
            errors[lane] += off * off;
        }
    }
    errors.into_iter().sum()
}

//! The steps and lines of the plain search, one run and one trial after the other, bit for bit.

use proptest::prelude::*;

use super::*;
use crate::format::Format;
use crate::quant::round_rows;
use crate::simd::{Isa, multiversion};
use crate::stored::Stored;
use crate::testing::{bits, noise};

/// What the kernels do in lanes.
mod plain {
    use super::super::{greatest, inverse, range, whole};
    use crate::element::LANES;

    /// The sum of squared errors of `step` times codes from `least` to `most`.
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
}

#[inline(always)]
unsafe fn lines_body<L: Lanes>(numbers: &[f32], most: f32, lines: &mut [(f32, f32); RUNS]) {
    // SAFETY: the caller's promise.
    *lines = unsafe { best_lines::<L, 32>(numbers, most) };
}
multiversion! { unsafe fn lines(numbers: &[f32], most: f32, lines: &mut [(f32, f32); RUNS]) = lines_body }

#[inline(always)]
unsafe fn steps_body<L: Lanes>(numbers: &[f32], divisors: &[f32], steps: &mut [f32; LANES]) {
    // SAFETY: the caller's promise.
    *steps = unsafe { best_steps::<L, 16>(numbers, divisors, (-32.0, 31.0)) };
}
multiversion! { unsafe fn steps(numbers: &[f32], divisors: &[f32], steps: &mut [f32; LANES]) = steps_body }

#[inline(always)]
unsafe fn step_body<L: Lanes>(numbers: &[f32], divisors: &[f32], step: &mut f32) {
    // SAFETY: the caller's promise.
    *step = unsafe { best_step::<L, 32>(numbers, divisors, (-8.0, 7.0), truncated) };
}
multiversion! { unsafe fn step(numbers: &[f32], divisors: &[f32], step: &mut f32) = step_body }

/// Some storable numbers.
fn truncated(numbers: &mut [f32; LANES]) {
    for number in numbers {
        *number = f32::from_bits(number.to_bits() & !0xfff);
    }
}

/// 256 numbers in runs of sixteen, each of which is another case.
fn numbers() -> impl Strategy<Value = Vec<f32>> {
    let run = (any::<u64>(), 0usize..12).prop_map(|(seed, kind)| {
        let mut run = noise(seed, 16);
        let at = (seed % 16) as usize;
        match kind {
            0 => run.fill(0.0),
            1 => run.fill(-0.0),
            2 => run.iter_mut().for_each(|x| *x = x.abs()),
            3 => run.iter_mut().for_each(|x| *x = -x.abs()),
            4 => run.iter_mut().for_each(|x| *x *= 1e-42),
            5 => run.iter_mut().for_each(|x| *x *= f32::MAX),
            6 => run.iter_mut().for_each(|x| *x = (*x * 4.0).round()),
            7 => run[at] = 1e20,
            8 => run[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][at % 3],
            9 => run.iter_mut().for_each(|x| *x *= 1e-3),
            10 => run.fill(0.37),
            _ => {}
        }
        run
    });
    prop::collection::vec(run, 16).prop_map(|runs| runs.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_bits_of_the_plain_search(numbers in numbers()) {
        const SIX: [f32; 5] = [-32.0, -31.4, -30.8, 31.0, -33.0];
        const FOUR: [f32; 9] = [-8.0, -7.7, -7.4, -7.1, -8.4, -8.8, 7.0, 7.4, -9.3];
        let pair = |(step, minimum): (f32, f32)| bits(&[step, minimum]);
        for isa in Isa::all() {
            for most in [15.0, 31.0] {
                let mut found = [(0.0, 0.0); RUNS];
                // SAFETY: the instruction set is there.
                unsafe { lines(isa, &numbers, most, &mut found) };
                for (found, run) in found.into_iter().zip(numbers.chunks(32)) {
                    prop_assert_eq!(pair(found), pair(plain::best_line(run, most)), "{:?} {:?}", isa, run);
                }
            }
            let mut found = [0.0; LANES];
            // SAFETY: the instruction set is there.
            unsafe { steps(isa, &numbers, &SIX, &mut found) };
            for (found, run) in found.into_iter().zip(numbers.chunks(16)) {
                let step = plain::best_step(run, &SIX, -32.0, 31.0, |step| step);
                prop_assert_eq!(bits(&[found]), bits(&[step]), "{:?} {:?}", isa, run);
            }
            for run in numbers.chunks(32) {
                let mut found = 0.0;
                // SAFETY: the instruction set is there.
                unsafe { step(isa, run, &FOUR, &mut found) };
                let stored = |step: f32| f32::from_bits(step.to_bits() & !0xfff);
                let step = plain::best_step(run, &FOUR, -8.0, 7.0, stored);
                prop_assert_eq!(bits(&[found]), bits(&[step]), "{:?} {:?}", isa, run);
            }
        }
    }
}

/// Files that were written keep their meaning only as long as this holds: a model quantised again is the same bytes.
#[test]
fn the_bytes_of_rounded_rows_stay_as_they_are() {
    let mut numbers = noise(11, 8 * 2048);
    for (i, run) in numbers.chunks_mut(16).enumerate() {
        let size = [1.0, 0.02, 3e-6, 700.0, 0.0, 1e-3][i % 6];
        run.iter_mut().for_each(|x| *x = *x * size + if i % 5 == 0 { size } else { 0.0 });
    }
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let checksum = |format| {
        let rounded = round_rows(format, Stored::F32, 2048, &bytes).unwrap();
        // FNV-1a.
        rounded.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    let found = [Format::Q8, Format::Q4, Format::Q4K, Format::Q5K, Format::Q6K].map(checksum);
    assert_eq!(
        found.map(|sum| format!("{sum:016x}")),
        ["a15a85fef2855455", "cb5fe7b7b99ef624", "e5750798af087068", "dc63459451208bda", "6df7bf69e5a1b261"]
    );
}

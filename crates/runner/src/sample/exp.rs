//! The exponential of non-positive numbers, in a form that compilers turn into vector instructions.
//!
//! Only additions, multiplications and comparisons in a fixed order: the same bits on every machine.

/// `e^x` for `x <= 0`, within 2e-7 relative; 0 below -87, where f32 ends.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r, with n rounded by adding a number so large that only whole numbers fit behind it
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor, written for |r| <= ln 2 / 2
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    // 2^n, from the whole number that the rounding left in the low bits
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x > -87.0 { p * power } else { 0.0 }
}

/// The sum of numbers, in f64 and in an order that depends on their count alone.
pub(super) fn sum(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0f64; 8];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_accurate() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1000.0), 0.0);
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(relative < 2e-7, "e^{x} is off by {relative:e}");
        }
    }

    #[test]
    fn a_sum_keeps_small_numbers() {
        let mut values = vec![1e-8f32; 100_000];
        values[7] = 1.0;
        let expected = 1.0 + 99_999.0 * f64::from(1e-8f32);
        assert!((sum(&values) - expected).abs() < 1e-12);
    }
}

//! What the numbers of a head are multiplied with to become codes of eight bits.

/// The greatest code. -128 is left out, so that a number and its opposite have opposite codes.
const GREATEST_CODE: f32 = 127.0;

/// The scale of a head's numbers: a number is about its code times the scale.
///
/// NaN where a number is NaN or infinite: such a head must not look like one that has sound numbers, and what is
/// multiplied by its scale is NaN in attention.
pub(super) fn scale_of(numbers: &[f32]) -> f32 {
    // Without the sign, the bits of floats are in the order of their sizes, infinity and NaN last.
    let greatest = numbers.iter().fold(0, |greatest: u32, v| greatest.max(v.abs().to_bits()));
    let greatest = f32::from_bits(greatest);
    if !greatest.is_finite() {
        return f32::NAN;
    }
    // Codes are numbers times the reciprocal, which must not be infinite.
    (greatest / GREATEST_CODE).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Element;

    #[test]
    fn numbers_are_half_a_scale_off_at_most() {
        let ramp: Vec<f32> = (-1000..=1000).map(|i| i as f32 * 1e-3).collect();
        for size in [0.0, 1e-45, 1e-38, 1e-30, 1.0, 3.5, 65504.0, f32::MAX] {
            let numbers: Vec<f32> = ramp.iter().map(|v| v * size).collect();
            let scale = scale_of(&numbers);
            for v in &numbers {
                let code = i8::from_f32(v * scale.recip());
                assert_ne!(code, i8::MIN);
                let off = (f64::from(code) * f64::from(scale) - f64::from(*v)).abs();
                assert!(off <= 0.50001 * f64::from(scale), "{v} becomes {code} times {scale}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_poisons_the_scale() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(scale_of(&[1.0, bad, 2.0]).is_nan());
        }
    }
}

//! Rewriting numbers from the type in which a file stores them to another.

use candle_core::DType;
use half::{bf16, f16};

/// Little-endian `bytes` of type `from` as little-endian bytes of type `to`. Both are one of F32, F16, BF16;
/// narrowing rounds to nearest, ties to even.
pub(super) fn convert(bytes: &[u8], from: DType, to: DType, out: &mut Vec<u8>) {
    out.clear();
    match to {
        DType::F16 => widened(bytes, from, |x| out.extend(f16::from_f32(x).to_le_bytes())),
        DType::BF16 => widened(bytes, from, |x| out.extend(bf16::from_f32(x).to_le_bytes())),
        _ => widened(bytes, from, |x| out.extend(x.to_le_bytes())),
    }
}

/// Each number of `bytes` as f32.
pub(super) fn widened(bytes: &[u8], from: DType, mut each: impl FnMut(f32)) {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    match from {
        DType::F16 => pairs().for_each(|&b| each(f16::from_le_bytes(b).to_f32())),
        DType::BF16 => pairs().for_each(|&b| each(bf16::from_le_bytes(b).to_f32())),
        _ => bytes.as_chunks::<4>().0.iter().for_each(|&b| each(f32::from_le_bytes(b))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_is_exact_and_narrowing_rounds_to_even() {
        let values = [1.0f32, -2.5, 0.0, 65504.0, 1.003_906_2];
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (mut half_width, mut back) = (Vec::new(), Vec::new());
        convert(&bytes, DType::F32, DType::BF16, &mut half_width);
        convert(&half_width, DType::BF16, DType::F32, &mut back);
        let mut got = Vec::new();
        widened(&back, DType::F32, |x| got.push(x));
        // 65504 and 1 + 2^-8 are not bf16 numbers
        assert_eq!(got, [1.0, -2.5, 0.0, 65536.0, 1.0]);
        convert(&bytes, DType::F32, DType::F16, &mut half_width);
        got.clear();
        widened(&half_width, DType::F16, |x| got.push(x));
        assert_eq!(got, [1.0, -2.5, 0.0, 65504.0, 1.003_906_2]);
    }
}

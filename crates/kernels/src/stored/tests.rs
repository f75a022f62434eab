//! Every encoding against another implementation of it, number by number.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};

use super::*;
use crate::testing::{noise, tensor};

#[test]
fn blocks_mean_what_they_mean_elsewhere() {
    let encodings = [
        (Stored::F32, GgmlDType::F32),
        (Stored::F16, GgmlDType::F16),
        (Stored::BF16, GgmlDType::BF16),
        (Stored::Q8_0, GgmlDType::Q8_0),
        (Stored::Q4_0, GgmlDType::Q4_0),
        (Stored::Q4_1, GgmlDType::Q4_1),
        (Stored::Q5_0, GgmlDType::Q5_0),
        (Stored::Q5_1, GgmlDType::Q5_1),
        (Stored::Q4_K, GgmlDType::Q4K),
        (Stored::Q5_K, GgmlDType::Q5K),
        (Stored::Q6_K, GgmlDType::Q6K),
    ];
    for (stored, theirs) in encodings {
        // Offsets and outliers give every scale and minimum something to do.
        let numbers: Vec<f32> = noise(7, 3 * 512)
            .iter()
            .enumerate()
            .map(|(i, v)| v * (1 + i / 40) as f32 + (i / 100) as f32 - 4.0)
            .collect();
        let encoded = QTensor::quantize(&tensor(&numbers, &[3, 512]), theirs).unwrap();
        let bytes = encoded.data().unwrap();
        let expect: Vec<f32> =
            encoded.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(stored.row_bytes(3 * 512), Some(bytes.len()), "{stored:?}");
        let mut found = vec![0.0; 3 * 512];
        stored.decode(&bytes, &mut found);
        for (i, (found, expect)) in found.iter().zip(&expect).enumerate() {
            assert!(
                (found - expect).abs() <= expect.abs() * 1e-6,
                "{stored:?}: number {i} is {found}, not {expect}"
            );
        }
    }
}

#[test]
fn eight_bits_of_a_float_mean_what_they_mean_elsewhere() {
    let codes: Vec<u8> = (0..=255).collect();
    let mut found = vec![0.0; 256];
    Stored::F8_E4M3.decode(&codes, &mut found);
    let theirs = Tensor::from_raw_buffer(&codes, DType::F8E4M3, &[256], &Device::Cpu).unwrap();
    let theirs: Vec<f32> = theirs.to_dtype(DType::F32).unwrap().to_vec1().unwrap();
    for ((code, found), expected) in codes.iter().zip(found).zip(theirs) {
        let same = if code & 0x7f == 0x7f { found.is_nan() } else { found.to_bits() == expected.to_bits() };
        assert!(same, "{code:#x} is {found}, not {expected}");
    }
}

#[test]
fn rows_are_whole_blocks() {
    assert_eq!(Stored::BF16.row_bytes(5), Some(10));
    assert_eq!(Stored::Q8_0.row_bytes(64), Some(68));
    assert_eq!(Stored::Q8_0.row_bytes(65), None);
    assert_eq!(Stored::Q4_K.row_bytes(128), None);
    assert_eq!(Stored::F32.row_bytes(usize::MAX), None);
}

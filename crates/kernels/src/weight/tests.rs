//! Packing loses nothing, whatever the order and size of the runs.

use candle_core::DType;
use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::error::KernelError;
use crate::stored::Stored;

fn bytes_of(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn unpacking_gives_back_what_was_packed(
        dtype in prop::sample::select(vec![DType::F32, DType::F16, DType::BF16]),
        out in 1usize..70, inn in 1usize..40, cuts in prop::collection::vec(0usize..70, 0..4), offset in 0usize..3,
    ) {
        // Small whole numbers are exact in all three dtypes.
        let values: Vec<f32> = (0..out * inn).map(|i| (i % 251) as f32 - 125.0).collect();
        // The bytes of a file begin anywhere.
        let mut shifted = vec![0xAA; offset];
        shifted.extend(bytes_of(dtype, &values));
        let bytes = &shifted[offset..];
        let format = Format::from_dtype(dtype).unwrap();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(out)).chain([0, out]).collect();
        cuts.sort_unstable();
        let mut builder = PackedWeight::builder(format, out, inn).unwrap();
        let stored = format.stored();
        let width = stored.row_bytes(inn).unwrap();
        for run in cuts.windows(2).rev() {
            builder.rows(run[0], stored, &bytes[run[0] * width..run[1] * width]).unwrap();
        }
        let weight = builder.finish().unwrap();
        prop_assert_eq!(weight.dequantize(), values);
        prop_assert_eq!((weight.out_features(), weight.in_features(), weight.format()), (out, inn, format));
        prop_assert_eq!(weight.num_bytes(), format.packed_bytes(out, inn).unwrap());
        prop_assert!(weight.num_bytes() >= out * width);
    }
}

#[test]
fn wrong_shapes_are_errors_that_say_so() {
    let error = |r: crate::Result<PackedWeight>| r.unwrap_err().to_string();
    assert_eq!(
        error(PackedWeight::pack(Format::F32, 2, 2, &[0; 15])),
        "packed weight: 15 bytes are not whole rows of 8 bytes"
    );
    assert_eq!(
        error(PackedWeight::pack(Format::F32, 2, 2, &[0; 24])),
        "packed weight: rows 0..3 given, the matrix has 2"
    );
    assert_eq!(
        error(PackedWeight::pack(Format::F32, 3, 2, &[0; 16])),
        "packed weight: row 2 of 3 was never given"
    );
    assert!(error(PackedWeight::pack(Format::F32, 0, 2, &[])).contains("no elements"));
    assert!(matches!(PackedWeight::builder(Format::F32, usize::MAX, 8), Err(KernelError::Memory { .. })));
    let mut builder = PackedWeight::builder(Format::BF16, 4, 1).unwrap();
    builder.rows(1, Stored::BF16, &[0; 4]).unwrap();
    assert_eq!(
        builder.rows(0, Stored::BF16, &[0; 4]).unwrap_err().to_string(),
        "packed weight: row 1 given twice"
    );
    assert!(builder.rows(usize::MAX, Stored::BF16, &[0; 2]).is_err());
}

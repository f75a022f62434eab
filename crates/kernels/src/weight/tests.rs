//! Packing loses nothing, whatever the order and size of the runs.

use candle_core::DType;
use half::{bf16, f16};
use proptest::prelude::*;

use super::*;
use crate::stored::Stored;
use crate::testing::temporary_file;

const FORMATS: [Format; 8] =
    [Format::F32, Format::F16, Format::BF16, Format::Q8, Format::Q4, Format::Q4K, Format::Q5K, Format::Q6K];

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

/// A matrix of 20 rows whose stored bytes count up, scales included.
fn counted(format: Format) -> PackedWeight {
    let (out, inn) = (20, format.stored().block_len().max(32) * 2);
    let bytes = out * format.stored().row_bytes(inn).unwrap();
    // No scale becomes infinite: exponents of f16 and bf16 stay small.
    let stored: Vec<u8> = (0..bytes).map(|i| ((i * 37 + i / 64) % 59) as u8).collect();
    PackedWeight::pack(format, out, inn, &stored).unwrap()
}

/// Files hold tiles. When this fails, raise [`TILE_LAYOUT`] and write the new sums here.
#[test]
fn the_bytes_of_tiles_are_those_of_the_layout_version() {
    let sum = |format| {
        let weight = counted(format);
        weight.bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    let sums: Vec<String> = FORMATS.iter().map(|format| format!("{format} {:016x}", sum(*format))).collect();
    let known = [
        "float32 edc0e4fe820f121d",
        "float16 83c0c753c05a8d0f",
        "bfloat16 083bc2566cc5fd7f",
        "q8 59a60715ac110e27",
        "q4 6f84e61bacaaf6f6",
        "q4_k e90e5d7af4b790ba",
        "q5_k 70b90e1d417220fc",
        "q6_k ffdfe7c10bb16c56",
    ];
    assert_eq!((TILE_LAYOUT, sums), (1, known.map(str::to_owned).to_vec()));
}

#[test]
fn tiles_in_a_file_are_the_matrix_that_was_packed() {
    for format in FORMATS {
        let packed = counted(format);
        let mut bytes = vec![0xAA; TILE_ALIGNMENT];
        bytes.extend_from_slice(packed.bytes());
        let (out, inn) = (packed.out_features(), packed.in_features());
        let file = Arc::new(FileMapping::new(&temporary_file(&bytes), bytes.len() as u64).unwrap());
        let mapped = PackedWeight::mapped(format, out, inn, &file, TILE_ALIGNMENT).unwrap();
        let wrong = |out, offset| PackedWeight::mapped(format, out, inn, &file, offset).is_err();
        assert!(wrong(out, 32) && wrong(out, 2 * TILE_ALIGNMENT) && wrong(40, TILE_ALIGNMENT));
        assert!(wrong(0, TILE_ALIGNMENT) && wrong(usize::MAX, 0) && wrong(out, usize::MAX - 63));
        drop(file);
        assert_eq!((mapped.bytes(), mapped.num_bytes()), (packed.bytes(), packed.num_bytes()));
        assert_eq!(mapped.dequantize(), packed.dequantize());
        let input = candle_core::Tensor::arange(0f32, (3 * inn) as f32, &candle_core::Device::Cpu).unwrap();
        let input = input.reshape((3, inn)).unwrap();
        let product =
            |weight| crate::linear(&input, &Arc::new(weight), None).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(product(mapped), product(packed), "{format}");
    }
}

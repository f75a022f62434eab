//! How weights are encoded for a device.

use candle_core::DType;

use super::*;
use crate::format::Format;
use crate::gpu::embedding;
use crate::gpu::testing::{device, ids_on_gpu, values_of};
use crate::quant::round_rows;
use crate::testing::{noise, stored};

/// The numbers of a matrix as the device has them.
fn numbers_of(matrix: &GpuMatrix) -> Vec<f32> {
    let ids: Vec<u32> = (0..matrix.out_features() as u32).collect();
    values_of(&embedding(&ids_on_gpu(matrix.gpu(), &ids), matrix, 0).unwrap())
}

fn matrix(format: GpuFormat, encoding: Stored, out: usize, inn: usize, bytes: &[u8]) -> GpuMatrix {
    let builder = GpuMatrixBuilder::new(&device(), format, out, inn).unwrap();
    // The last rows first, and more runs than can be under way at once.
    let mut staging = RowStaging::default();
    for (row, bytes) in bytes.chunks(bytes.len() / out).enumerate().rev() {
        if builder.holds(encoding) {
            builder.stage(&mut staging, bytes.len()).unwrap().copy_from_slice(bytes);
            builder.staged_rows(&mut staging, row, encoding, bytes.len()).unwrap();
        } else {
            builder.rows_through(&mut staging, row, encoding, bytes).unwrap();
        }
    }
    let matrix = builder.finish().unwrap();
    assert_eq!(matrix.num_bytes(), format.num_bytes(out, inn).unwrap());
    matrix
}

#[test]
fn floats_keep_their_bits_and_encoded_rows_become_floats() {
    for inn in [8, 64, 100, 256] {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let bytes = stored(dtype, &noise(1, 5 * inn));
            let format = GpuFormat::from_dtype(dtype).unwrap();
            let encoding = Format::from_dtype(dtype).unwrap().stored();
            let mut expected = vec![0.0; 5 * inn];
            encoding.decode(&bytes, &mut expected);
            assert_eq!(numbers_of(&matrix(format, encoding, 5, inn, &bytes)), expected);
            // Every bf16 and f16 is an f32.
            assert_eq!(numbers_of(&matrix(GpuFormat::F32, encoding, 5, inn, &bytes)), expected);
        }
    }
    let rows = round_rows(Format::Q4K, Stored::F32, 256, &stored(DType::F32, &noise(2, 512))).unwrap();
    let mut expected = vec![0.0; 512];
    Stored::Q4_K.decode(&rows, &mut expected);
    assert_eq!(numbers_of(&matrix(GpuFormat::F32, Stored::Q4_K, 2, 256, &rows)), expected);
}

#[test]
fn blocks_are_those_that_the_cpu_rounds_to() {
    for inn in [32, 96, 320] {
        let bytes = stored(DType::F32, &noise(3, 7 * inn));
        for (format, on_gpu) in [(Format::Q8, GpuFormat::Q8), (Format::Q4, GpuFormat::Q4)] {
            let blocks = round_rows(format, Stored::F32, inn, &bytes).unwrap();
            let mut expected = vec![0.0; 7 * inn];
            format.stored().decode(&blocks, &mut expected);
            assert_eq!(numbers_of(&matrix(on_gpu, Stored::F32, 7, inn, &bytes)), expected);
            assert_eq!(numbers_of(&matrix(on_gpu, format.stored(), 7, inn, &blocks)), expected);
        }
    }
}

#[test]
fn rows_of_fp8_hold_the_nearest_numbers() {
    let inn = 200;
    let mut numbers = noise(4, 4 * inn);
    // From large to so small that exponents end.
    for (k, number) in numbers.iter_mut().enumerate() {
        *number *= 0.7f32.powi((k % inn / 4) as i32);
    }
    numbers[inn..2 * inn].fill(0.0);
    numbers[2 * inn + 7] = f32::INFINITY;
    let found = numbers_of(&matrix(GpuFormat::Fp8, Stored::F32, 4, inn, &stored(DType::F32, &numbers)));
    assert!(found[inn..2 * inn].iter().all(|x| *x == 0.0));
    assert!(found[2 * inn..3 * inn].iter().all(|x| x.is_nan()), "what is not finite must not vanish");
    let codes: Vec<f32> = (0..127u8)
        .map(|code| {
            let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7) / 8.0);
            if exponent == 0 { mantissa * 2f32.powi(-6) } else { (1.0 + mantissa) * 2f32.powi(exponent - 7) }
        })
        .collect();
    for row in [0, 3] {
        let (numbers, found) = (&numbers[row * inn..][..inn], &found[row * inn..][..inn]);
        let scale = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 448.0;
        for (number, found) in numbers.iter().zip(found) {
            let off = |to: f32| f64::from(to) - f64::from(*number);
            let least = codes.iter().map(|code| off((code * scale).copysign(*number)).abs()).reduce(f64::min);
            assert!(off(*found).abs() <= least.unwrap() * 1.0001, "{found} is not the nearest of {number}");
        }
    }
}

#[test]
fn codes_of_fp8_and_scales_are_taken_as_they_are() {
    for inn in [5, 64, 200] {
        let codes: Vec<u8> =
            (0..4 * inn).map(|i| (i * 89 % 256) as u8).map(|c| if c & 127 == 127 { 1 } else { c }).collect();
        let scales = [0.5, 3.0e-3, 0.0, -7.25];
        let builder = GpuMatrixBuilder::new(&device(), GpuFormat::Fp8, 4, inn).unwrap();
        let mut staging = RowStaging::default();
        // Something is left of other rows in that memory.
        builder.stage(&mut staging, 4 * 256).unwrap().fill(0x7f);
        builder.scaled_rows(&mut staging, 1, &codes[inn..], &scales[1..]).unwrap();
        assert!(builder.scaled_rows(&mut staging, 1, &codes[..inn], &scales[..1]).is_err(), "twice");
        assert!(
            builder.scaled_rows(&mut staging, 0, &codes[..inn], &scales[..2]).is_err(),
            "a scale too many"
        );
        builder.scaled_rows(&mut staging, 0, &codes[..inn], &scales[..1]).unwrap();
        let mut expected = vec![0.0; 4 * inn];
        Stored::F8_E4M3.decode(&codes, &mut expected);
        for (row, scale) in expected.chunks_mut(inn).zip(scales) {
            row.iter_mut().for_each(|number| *number *= scale);
        }
        assert_eq!(numbers_of(&builder.finish().unwrap()), expected, "{inn}");
    }
    let other = GpuMatrixBuilder::new(&device(), GpuFormat::Q8, 1, 8).unwrap();
    assert!(other.scaled_rows(&mut RowStaging::default(), 0, &[0; 8], &[1.0]).is_err(), "another format");
}

#[test]
fn rows_come_once_and_all_of_them() {
    let gpu = device();
    let row = stored(DType::F32, &noise(5, 8));
    let mut builder = GpuMatrixBuilder::new(&gpu, GpuFormat::BF16, 3, 8).unwrap();
    assert!(builder.rows(0, Stored::F32, &row[1..]).is_err(), "no whole row");
    assert!(builder.rows(0, Stored::Q8_0, &row).is_err(), "no whole block");
    assert!(builder.rows(3, Stored::F32, &row).is_err(), "beyond the last one");
    builder.rows(1, Stored::F32, &row).unwrap();
    assert!(builder.rows(1, Stored::F32, &row).is_err(), "twice");
    let mut staging = RowStaging::default();
    let staged = builder.staged_rows(&mut staging, 0, Stored::BF16, 16);
    assert!(staged.is_err(), "rows of whole steps alone are held as they are");
    builder.rows(0, Stored::F32, &row).unwrap();
    assert!(builder.finish().is_err(), "row 2 is missing");
    assert!(GpuMatrixBuilder::new(&gpu, GpuFormat::BF16, 0, 8).is_err());
}

#[test]
fn random_numbers_are_around_zero_and_as_large_as_weights() {
    let gpu = device();
    for format in GpuFormat::ALL {
        let numbers = |seed| numbers_of(&GpuMatrix::random(&gpu, format, 40, 300, seed).unwrap());
        let found = numbers(1);
        assert!(found != numbers(2) && found == numbers(1));
        let mean = found.iter().sum::<f32>() / found.len() as f32;
        let deviation = (found.iter().map(|x| x * x).sum::<f32>() / found.len() as f32).sqrt();
        assert!(mean.abs() < 0.003 && (deviation - 0.02).abs() < 0.001, "{format}: {mean} {deviation}");
    }
}

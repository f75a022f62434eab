//! Quantised products: close to f64 with the same weights, and the same bits in any company, on any instruction set
//! and number of threads.

use std::sync::Arc;

use proptest::prelude::*;

use super::BLOCK;
use crate::linear::linear_on;
use crate::simd::Isa;
use crate::testing::{bits, noise, stored, tensor, values};
use crate::{Format, PackedWeight, Stored, reference, set_num_threads};

const FORMATS: [Format; 5] = [Format::Q8, Format::Q4, Format::Q4K, Format::Q5K, Format::Q6K];

struct Case {
    x: Vec<f32>,
    w: Arc<PackedWeight>,
    bias: Option<Vec<f32>>,
}

fn quantised(format: Format, out: usize, inn: usize, numbers: &[f32]) -> PackedWeight {
    let mut builder = PackedWeight::builder(format, out, inn).unwrap();
    builder.rows(0, Stored::F32, &stored(candle_core::DType::F32, numbers)).unwrap();
    builder.finish().unwrap()
}

fn case(format: Format, n: usize, out: usize, inn: usize, with_bias: bool, seed: u64) -> Case {
    Case {
        x: noise(seed ^ 1, n * inn),
        w: Arc::new(quantised(format, out, inn, &noise(seed, out * inn))),
        bias: with_bias.then(|| noise(seed ^ 2, out)),
    }
}

impl Case {
    fn run(&self, isa: Isa, rows: std::ops::Range<usize>) -> Vec<f32> {
        let inn = self.w.in_features();
        let x = tensor(&self.x[rows.start * inn..rows.end * inn], &[rows.len(), inn]);
        let bias = self.bias.as_ref().map(|b| tensor(b, &[b.len()]));
        let y = linear_on(isa, &x, &self.w, bias.as_ref()).unwrap();
        assert_eq!(y.dims(), [rows.len(), self.w.out_features()]);
        values(&y)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn close_to_the_reference(
        format in prop::sample::select(FORMATS.to_vec()), n in 1usize..20, out in 1usize..90, inn in 1usize..700,
        with_bias: bool, seed: u64, isa in prop::sample::select(Isa::all()),
    ) {
        let case = case(format, n, out, inn, with_bias, seed);
        let dense = case.w.dequantize();
        let exact = reference::linear(&case.x, &dense, case.bias.as_deref(), inn);
        // An activation is off by at most half of a step of 1/127; such errors add up like a random walk.
        let bound = 8.0 * (0.5 / 127.0) * (inn as f64).sqrt();
        for (i, (found, exact)) in case.run(isa, 0..n).iter().zip(&exact).enumerate() {
            prop_assert!((f64::from(*found) - exact).abs() <= bound, "number {i} is {found}, not {exact}");
        }
    }

    #[test]
    fn exact_where_activations_are_codes(
        format in prop::sample::select(FORMATS.to_vec()), n in 1usize..9, out in 1usize..40, inn in 1usize..300,
        seed: u64,
    ) {
        let mut case = case(format, n, out, inn, false, seed);
        // With 127 in each block, every whole number is its own code and the scale is 1.
        for row in case.x.chunks_mut(inn) {
            for (i, x) in row.iter_mut().enumerate() {
                *x = if i % BLOCK == 0 { 127.0 } else { (*x * 126.0).round() };
            }
        }
        let exact = reference::linear(&case.x, &case.w.dequantize(), None, inn);
        for (found, exact) in case.run(Isa::detect(), 0..n).iter().zip(&exact) {
            prop_assert!((f64::from(*found) - exact).abs() <= 127.0 * inn as f64 * 1e-6, "{found}, not {exact}");
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_in_company_and_on_every_instruction_set(
        format in prop::sample::select(FORMATS.to_vec()), n in 1usize..120, out in 1usize..150, inn in 1usize..600,
        with_bias: bool, seed: u64, threads in 1usize..5,
    ) {
        let case = case(format, n, out, inn, with_bias, seed);
        set_num_threads(threads);
        let together = case.run(Isa::Portable, 0..n);
        set_num_threads(threads % 3 + 1);
        for isa in Isa::all() {
            prop_assert_eq!(bits(&case.run(isa, 0..n)), bits(&together), "{:?}", isa);
            for row in [0, n / 2, n - 1] {
                let alone = case.run(isa, row..row + 1);
                prop_assert_eq!(bits(&alone), bits(&together[row * out..(row + 1) * out]), "{:?}", isa);
            }
        }
    }

    #[test]
    fn codes_of_files_are_kept(
        format in prop::sample::select(FORMATS.to_vec()), out in 1usize..40, blocks in 1usize..4, seed: u64,
    ) {
        let encoding = format.stored();
        let inn = blocks * encoding.block_len();
        let bytes = any_codes(encoding, out * blocks, seed);
        let mut expect = vec![0.0; out * inn];
        encoding.decode(&bytes, &mut expect);
        let packed = PackedWeight::pack(format, out, inn, &bytes).unwrap();
        prop_assert_eq!(packed.dequantize(), expect);
    }
}

/// Blocks of any codes and multiples; the f16 scales in them are made small positive numbers.
fn any_codes(encoding: Stored, blocks: usize, seed: u64) -> Vec<u8> {
    let width = encoding.block_bytes();
    let mut bytes: Vec<u8> = noise(seed, blocks * width).iter().map(|v| (v * 1e4) as i32 as u8).collect();
    let scales: &[usize] = match encoding {
        Stored::Q4_K | Stored::Q5_K => &[0, 2],
        Stored::Q6_K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_mut(width) {
        for at in scales {
            block[at + 1] = 0x20 | block[at + 1] & 0x0f;
        }
    }
    bytes
}

/// Codes, multiples and activations that are as large as they can be.
#[test]
fn the_extreme_blocks_are_exact() {
    for format in FORMATS {
        let (encoding, inn) = (format.stored(), 2 * format.stored().block_len());
        let mut bytes = any_codes(encoding, 2 * 5, 3);
        for block in bytes[..2 * encoding.block_bytes()].chunks_mut(encoding.block_bytes()) {
            block.fill(0xff);
            let width = block.len();
            for at in [0, 2, 208].into_iter().filter(|at| at + 1 < width) {
                block[at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
            }
        }
        let w = Arc::new(PackedWeight::pack(format, 5, inn, &bytes).unwrap());
        for sign in [1.0, -1.0] {
            let x = vec![sign * 127.0; inn];
            let exact = reference::linear(&x, &w.dequantize(), None, inn);
            for isa in Isa::all() {
                let found = values(&linear_on(isa, &tensor(&x, &[1, inn]), &w, None).unwrap());
                for (found, exact) in found.iter().zip(&exact) {
                    assert!(
                        (f64::from(*found) - exact).abs() <= exact.abs() * 1e-5,
                        "{format} {isa:?}: {found}, not {exact}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_extreme_codes_do_not_overflow() {
    // Stored bytes of -128 in a file, and activations of 127 and -127.
    let inn = 2 * BLOCK;
    let mut bytes = Vec::new();
    for code in [0x80u8, 0x7f, 0x81] {
        for _ in 0..inn / BLOCK {
            bytes.extend(half::f16::ONE.to_le_bytes());
            bytes.extend([code; BLOCK]);
        }
    }
    let w = Arc::new(PackedWeight::pack(Format::Q8, 3, inn, &bytes).unwrap());
    for sign in [1.0, -1.0] {
        let x = tensor(&vec![sign * 127.0; inn], &[1, inn]);
        for isa in Isa::all() {
            let found = values(&linear_on(isa, &x, &w, None).unwrap());
            let expect = [-128.0, 127.0, -127.0].map(|code| sign * code * 127.0 * inn as f32);
            assert_eq!(found, expect, "{isa:?}");
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_code() {
    // Steps between zero and one. A minimum spends all codes on the range, a scale of sixteen numbers fits them closely.
    let formats = [
        (Format::Q8, 127.0),
        (Format::Q4, 7.0),
        (Format::Q4K, 7.5),
        (Format::Q5K, 15.5),
        (Format::Q6K, 31.0),
    ];
    for (format, steps) in formats {
        let numbers = noise(5, 64 * 512);
        let packed = quantised(format, 64, 512, &numbers);
        let found = packed.dequantize();
        let error: f32 = found.iter().zip(&numbers).map(|(a, b)| (a - b).powi(2)).sum();
        // Uniform numbers in a step have a mean squared error of a twelfth of its square.
        let expect = numbers.len() as f32 * (1.0f32 / steps).powi(2) / 12.0;
        assert!(error < expect * 1.1, "{format}: {error} against {expect}");
        assert_eq!(packed.num_bytes(), format.packed_bytes(64, 512).unwrap());
    }
    for format in FORMATS {
        assert_eq!(quantised(format, 1, 40, &[0.0; 40]).dequantize(), [0.0; 40], "{format}");
    }
    // A minimum holds what no scale around zero does.
    let level = quantised(Format::Q4K, 1, 256, &[-3.0; 256]).dequantize();
    assert!(level.iter().all(|x| (x + 3.0).abs() < 3e-3), "{level:?}");
}

#[test]
fn numbers_that_are_none_stay_in_their_row() {
    for format in FORMATS {
        let mut case = case(format, 7, 20, 70, false, 4);
        let clean = case.run(Isa::detect(), 0..7);
        case.x[2 * 70 + 5] = f32::NAN;
        case.x[4 * 70 + 66] = f32::NEG_INFINITY;
        for isa in Isa::all() {
            for (row, (found, clean)) in case.run(isa, 0..7).chunks(20).zip(clean.chunks(20)).enumerate() {
                match row {
                    2 | 4 => assert!(found.iter().all(|v| !v.is_finite()), "{format} {isa:?}: {found:?}"),
                    _ => assert_eq!(bits(found), bits(clean), "{format} {isa:?}"),
                }
            }
        }
        let mut numbers = noise(1, 70);
        numbers[3] = f32::NAN;
        let poisoned = quantised(format, 1, 70, &numbers).dequantize();
        assert!(poisoned[..BLOCK].iter().all(|v| v.is_nan()), "a weight that is no number must not vanish");
    }
}

/// A file of rounded rows is as good as rounding while it is packed.
#[test]
fn rows_rounded_for_a_file_pack_into_the_same_bits() {
    let (rows, inn) = (19, 768);
    let mut numbers = noise(3, rows * inn);
    numbers[..32].fill(0.0);
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    for format in FORMATS {
        let mut direct = PackedWeight::builder(format, rows, inn).unwrap();
        direct.rows(0, Stored::F32, &bytes).unwrap();
        let direct = direct.finish().unwrap();
        let rounded = super::round_rows(format, Stored::F32, inn, &bytes).unwrap();
        assert_eq!(
            PackedWeight::pack(format, rows, inn, &rounded).unwrap().bytes(),
            direct.bytes(),
            "{format}"
        );
        assert_eq!(super::round_rows(format, format.stored(), inn, &rounded).unwrap(), rounded);
        assert!(super::round_rows(format, Stored::F32, inn, &bytes[1..]).is_err());
        assert!(super::round_rows(format, Stored::F32, 48, &bytes[..192]).is_err());
    }
    assert!(super::round_rows(Format::F16, Stored::F32, inn, &bytes).is_err());
}

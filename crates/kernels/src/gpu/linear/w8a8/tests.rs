//! Products in eight bits against exact ones of the rounded numbers, by every kernel, and the bits of a token in any company.

use vlinders_device::Gpu;

use super::super::tests::{HALVES, activations, weights};
use super::super::{Variant, Wide, gated_linear, gated_linear_by, linear, linear_by};
use super::*;
use crate::gpu::testing::{device, devices, ids_on_gpu, on_gpu, rounded_to, values_of};
use crate::gpu::{GpuFormat, GpuMatrixBuilder, embedding, silu_mul, tests_run_on_cuda};
use crate::stored::Stored;
use crate::testing::{bits, noise, stored};

fn number_of(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    match exponent {
        0 => mantissa * 2f32.powi(-9),
        _ => (8.0 + mantissa) * 2f32.powi(exponent - 10),
    }
}

/// The nearest number of e4m3 by looking at all of them; of two that are as near, the one with the even code.
fn e4m3(x: f32) -> f32 {
    let codes = (0..0x7f_u8).filter(|code| *code != 0x7f);
    let distance = |code: &u8| (number_of(*code) - x.abs()).abs();
    let nearest =
        codes.min_by(|a, b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))).unwrap();
    number_of(nearest).copysign(x)
}

/// What is left of the numbers of a token.
fn rounded(token: &[f32]) -> Vec<f64> {
    let greatest = token.iter().fold(2f32.powi(-100), |most, x| most.max(x.abs()));
    let (by, scale) = (448.0 / greatest, greatest / 448.0);
    token.iter().map(|x| f64::from(e4m3(x * by)) * f64::from(scale)).collect()
}

fn rounding(gpu: &Gpu, out: usize, inn: usize) -> GpuMatrix {
    let mut w = weights(gpu, GpuFormat::Fp8, out, inn);
    w.round_activations().unwrap();
    w
}

fn numbers_of(w: &GpuMatrix) -> Vec<f32> {
    let ids: Vec<u32> = (0..w.out_features() as u32).collect();
    values_of(&embedding(&ids_on_gpu(w.gpu(), &ids), w, 0).unwrap())
}

/// How far a sum may be off, as a share of the sum of magnitudes. The host adds up in f32, a chunk of 256 at a time. Tensor cores keep
/// some fourteen bits of the greatest of 33 numbers.
fn bound() -> f64 {
    if tests_run_on_cuda().unwrap() { 2f64.powi(-9) } else { 2f64.powi(-16) }
}

fn check(gpu: &Gpu, dtype: DType, [n, inn, out]: [usize; 3]) {
    let w = rounding(gpu, out, inn);
    let numbers = numbers_of(&w);
    let (x, bias) = (activations(dtype, n, inn), rounded_to(dtype, &noise(8, out)));
    let (x_there, bias_there) = (on_gpu(gpu, &x, &[n, inn], dtype), on_gpu(gpu, &bias, &[out], dtype));
    let plain = values_of(&linear(&x_there, &w, None, DType::F32).unwrap());
    let biased = linear(&x_there, &w, Some(&bias_there), dtype).unwrap();
    assert_eq!((biased.dims(), biased.dtype()), (&[n, out][..], dtype));
    let biased = values_of(&biased);
    let step = if dtype == DType::BF16 { 2f64.powi(-8) } else { 2f64.powi(-11) };
    for (token, x) in x.chunks_exact(inn).enumerate() {
        let x = rounded(x);
        for (row, w) in numbers.chunks_exact(inn).enumerate() {
            let products = x.iter().zip(w).map(|(x, w)| x * f64::from(*w));
            let (exact, all) = products.fold((0.0, 0.0), |(sum, all), p| (sum + p, all + p.abs()));
            let (found, most) = (f64::from(plain[token * out + row]), bound() * all);
            assert!((found - exact).abs() <= most, "{token}, {row} of {n} {inn} {out}: {found}, not {exact}");
            let (found, exact) = (f64::from(biased[token * out + row]), exact + f64::from(bias[row]));
            let most = most + step * exact.abs();
            assert!((found - exact).abs() <= most * 1.01, "{token}, {row} with a bias: {found}, not {exact}");
        }
    }
}

#[test]
fn products_are_those_of_the_rounded_numbers() {
    let gpu = device();
    for dtype in HALVES {
        for shape in [
            [1, 8, 1],
            [2, 100, 17],
            [7, 1504, 33],
            [8, 256, 300],
            [9, 320, 40],
            [16, 72, 70],
            [33, 200, 50],
            [40, 64, 16],
        ] {
            check(&gpu, dtype, shape);
        }
    }
    // Units for each block, more rounds than stages, and a row of which a block of threads has more than one part.
    check(&gpu, DType::BF16, [3, 2600, 520]);
    check(&gpu, DType::BF16, [1, 17_000, 3]);
    check(&gpu, DType::F16, [130, 328, 65]);
    check(&gpu, DType::BF16, [200, 136, 140]);
}

#[test]
fn a_token_has_the_same_bits_alone_and_among_others_by_every_kernel() {
    let (n, out) = (200, 168);
    let gpu = device();
    for dtype in HALVES {
        // Three chunks, the last one of a step and a few numbers; four whole steps; one that is not even a step.
        for inn in [584, 256, 40] {
            let w = rounding(&gpu, out, inn);
            let x = on_gpu(&gpu, &activations(dtype, n, inn), &[n, inn], dtype);
            let by = |kernel, x: &GpuTensor| {
                bits(&values_of(&linear_by(Some(Variant::W8A8(kernel)), x, &w, None, DType::F32).unwrap()))
            };
            let all = by(W8A8::Wide(Wide::Of128x64), &x);
            for kernel in W8A8::all() {
                for (first, count) in [(0, 200), (3, 1), (60, 7), (100, 16), (70, 30), (8, 129)] {
                    // Large blocks are slow here, so not each has all tokens of each row.
                    let worth = count <= 32 || inn == 584;
                    if worth && (!kernel.streams() || count <= kernel.shape().1) {
                        let y = by(kernel, &x.rows(first, count).unwrap());
                        assert!(y == all[first * out..][..count * out], "{kernel:?} {first} {count} {inn}");
                    }
                }
            }
        }
    }
}

#[test]
fn gates_are_applied_with_the_bits_of_two_kernels() {
    let (gpu, inn, inner) = (device(), 584, 112);
    for dtype in HALVES {
        let w = rounding(&gpu, 2 * inner, inn);
        for kernel in W8A8::all() {
            for n in [1, 7, 30, 65, 193] {
                if kernel.streams() && n > kernel.shape().1 || n > 65 && dtype == DType::F16 {
                    continue;
                }
                let x = on_gpu(&gpu, &activations(dtype, n, inn), &[n, inn], dtype);
                let two = silu_mul(&linear(&x, &w, None, dtype).unwrap()).unwrap();
                let one = gated_linear_by(Some(Variant::W8A8(kernel)), &x, &w).unwrap();
                assert_eq!(bits(&values_of(&one)), bits(&values_of(&two)), "{kernel:?} {n}");
            }
        }
    }
    // Halves that are no whole tiles take two kernels.
    let w = rounding(&gpu, 2 * 24, inn);
    let x = on_gpu(&gpu, &activations(DType::BF16, 3, inn), &[3, inn], DType::BF16);
    let two = silu_mul(&linear(&x, &w, None, DType::BF16).unwrap()).unwrap();
    assert_eq!(values_of(&gated_linear(&x, &w).unwrap()), values_of(&two));
}

#[test]
fn no_order_of_threads_changes_anything() {
    let (inn, out) = (1400, 300);
    for kernel in W8A8::all() {
        let n = kernel.shape().1.min(20);
        let x = activations(DType::BF16, n, inn);
        let mut found = devices().map(|gpu| {
            let x = on_gpu(&gpu, &x, &[n, inn], DType::BF16);
            let w = rounding(&gpu, out, inn);
            bits(&values_of(&linear_by(Some(Variant::W8A8(kernel)), &x, &w, None, DType::F32).unwrap()))
        });
        let first = found.next().unwrap();
        assert!(found.all(|other| other == first), "{kernel:?}");
    }
}

#[test]
fn a_token_of_zeros_gives_the_bias_and_one_that_is_not_finite_spoils_itself_alone() {
    let gpu = device();
    for dtype in HALVES {
        for n in [6, 40] {
            let (inn, out) = (100, 20);
            let mut x = activations(dtype, n, inn);
            x[inn..2 * inn].fill(0.0);
            x[2 * inn + 99] = f32::NAN;
            x[3 * inn] = f32::INFINITY;
            x[4 * inn + 5] = f32::NEG_INFINITY;
            // So small that its reciprocal is not finite.
            x[5 * inn..6 * inn].fill(0.0);
            x[5 * inn] = if dtype == DType::BF16 { 1e-39 } else { 6e-8 };
            let bias = rounded_to(dtype, &noise(8, out));
            let w = rounding(&gpu, out, inn);
            let x = on_gpu(&gpu, &x, &[n, inn], dtype);
            let y = linear(&x, &w, Some(&on_gpu(&gpu, &bias, &[out], dtype)), dtype).unwrap();
            for (token, y) in values_of(&y).chunks_exact(out).enumerate() {
                let spoiled = (2..5).contains(&token);
                assert!(
                    y.iter().all(|y| y.is_nan() == spoiled && (spoiled || y.is_finite())),
                    "{token} {y:?}"
                );
                if token == 1 {
                    assert_eq!(y, bias);
                }
            }
        }
    }
}

#[test]
fn a_weight_that_is_no_number_reaches_its_own_output_alone() {
    let gpu = device();
    let (inn, out) = (100, 40);
    let mut numbers = noise(9, out * inn);
    numbers[3 * inn + 99] = f32::NAN;
    numbers[20 * inn..21 * inn].fill(0.0);
    let mut builder = GpuMatrixBuilder::new(&gpu, GpuFormat::Fp8, out, inn).unwrap();
    builder.rows(0, Stored::F32, &stored(DType::F32, &numbers)).unwrap();
    let mut w = builder.finish().unwrap();
    w.round_activations().unwrap();
    for n in [2, 70] {
        let x = on_gpu(&gpu, &activations(DType::BF16, n, inn), &[n, inn], DType::BF16);
        let y = values_of(&linear(&x, &w, None, DType::BF16).unwrap());
        for (i, y) in y.iter().enumerate() {
            assert_eq!(y.is_nan(), i % out == 3, "output {i}");
            assert!(i % out != 20 || *y == 0.0, "output {i}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let gpu = device();
    let mut q8 = weights(&gpu, GpuFormat::Q8, 16, 32);
    assert!(q8.round_activations().unwrap_err().to_string().contains("must be fp8"));
    let plain = weights(&gpu, GpuFormat::Fp8, 16, 32);
    let w = rounding(&gpu, 16, 32);
    let x = on_gpu(&gpu, &activations(DType::BF16, 2, 32), &[2, 32], DType::BF16);
    let by = |variant, w| linear_by(Some(variant), &x, w, None, DType::F32);
    assert!(by(Variant::W8A8(W8A8::Stream8), &w).is_ok());
    assert!(by(Variant::W8A8(W8A8::Stream8), &plain).is_err());
    assert!(by(Variant::Stream8, &w).is_err());
    let many = on_gpu(&gpu, &activations(DType::BF16, 9, 32), &[9, 32], DType::BF16);
    assert!(linear_by(Some(Variant::W8A8(W8A8::Stream8)), &many, &w, None, DType::F32).is_err());
    assert!(!Variant::W8A8(W8A8::Stream8).can(9, &w) && Variant::W8A8(W8A8::Wide(Wide::Of64x64)).can(9, &w));
    // In f32 weights alone are rounded.
    let single = on_gpu(&gpu, &activations(DType::F32, 2, 32), &[2, 32], DType::F32);
    let of = |w| bits(&values_of(&linear(&single, w, None, DType::F32).unwrap()));
    assert_eq!(of(&w), of(&plain));
    let none = GpuTensor::of_buffer(&gpu.allocate(64).unwrap(), &[0, 32], DType::BF16).unwrap();
    assert_eq!(linear(&none, &w, None, DType::BF16).unwrap().dims(), [0, 16]);
    gpu.wait().unwrap();
}

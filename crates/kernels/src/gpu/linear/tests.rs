//! Products on a device against exact ones, and the bits of a row in any company.

use vlinders_device::Gpu;

use super::*;
use crate::gpu::testing::{assert_near, device, devices, ids_on_gpu, on_gpu, rounded_to, values_of};
use crate::gpu::{GpuMatrixBuilder, embedding};
use crate::reference;
use crate::stored::Stored;
use crate::testing::{assert_close, bits, noise, stored};

pub(super) const HALVES: [DType; 2] = [DType::BF16, DType::F16];
/// All kernels, and how many tokens they take.
const VARIANTS: [(Variant, usize); 13] = [
    (Variant::Stream8, 8),
    (Variant::Stream16, 16),
    (Variant::Stream32, 32),
    (Variant::Small64, usize::MAX),
    (Variant::Tile32, usize::MAX),
    (Variant::Tile64, usize::MAX),
    (Variant::Tile128, usize::MAX),
    (Variant::Wide(Wide::Of64x64), usize::MAX),
    (Variant::Wide(Wide::Of128x64), usize::MAX),
    (Variant::Wide(Wide::Of128x128), usize::MAX),
    (Variant::Wide(Wide::Of128x192), usize::MAX),
    (Variant::Wide(Wide::Pair256x128), usize::MAX),
    (Variant::Wide(Wide::Pair256x192), usize::MAX),
];

/// Formats that activations of this type are multiplied with.
pub(super) fn formats(dtype: DType) -> Vec<GpuFormat> {
    let fits = |format: &GpuFormat| {
        dtype == DType::F32 || format.dtype().is_none_or(|of_weights| of_weights == dtype)
    };
    GpuFormat::ALL.into_iter().filter(fits).collect()
}

pub(super) fn weights(gpu: &Gpu, format: GpuFormat, out: usize, inn: usize) -> GpuMatrix {
    let mut builder = GpuMatrixBuilder::new(gpu, format, out, inn).unwrap();
    builder.rows(0, Stored::F32, &stored(DType::F32, &noise(out as u64, out * inn))).unwrap();
    builder.finish().unwrap()
}

/// The numbers that the device multiplies with.
fn numbers_of(w: &GpuMatrix) -> Vec<f32> {
    let ids: Vec<u32> = (0..w.out_features() as u32).collect();
    values_of(&embedding(&ids_on_gpu(w.gpu(), &ids), w, 0).unwrap())
}

/// `n` rows of `inn`, none of which is like another.
pub(super) fn activations(dtype: DType, n: usize, inn: usize) -> Vec<f32> {
    rounded_to(dtype, &noise(7, n * inn))
}

fn check(gpu: &Gpu, dtype: DType, format: GpuFormat, [n, inn, out]: [usize; 3]) {
    let w = weights(gpu, format, out, inn);
    let numbers = numbers_of(&w);
    let (x, bias) = (activations(dtype, n, inn), rounded_to(dtype, &noise(8, out)));
    let (on_device, bias_on_device) = (on_gpu(gpu, &x, &[n, inn], dtype), on_gpu(gpu, &bias, &[out], dtype));
    let y = linear(&on_device, &w, Some(&bias_on_device), dtype).unwrap();
    assert_eq!((y.dims(), y.dtype()), (&[n, out][..], dtype));
    assert_near(dtype, &values_of(&y), &reference::linear(&x, &numbers, Some(&bias), inn));
    let y = linear(&on_device, &w, None, DType::F32).unwrap();
    assert_eq!(y.dtype(), DType::F32);
    assert_close(&values_of(&y), &reference::linear(&x, &numbers, None, inn), 2e-5);
}

#[test]
fn products_of_few_tokens_are_those_of_the_reference() {
    let gpu = device();
    for dtype in HALVES {
        for format in formats(dtype) {
            for shape in [[1, 8, 1], [2, 100, 17], [7, 1504, 33], [8, 256, 16], [9, 320, 40], [16, 72, 5]] {
                check(&gpu, dtype, format, shape);
            }
            check(&gpu, dtype, format, [33, 200, 50]);
        }
    }
    check(&gpu, DType::BF16, GpuFormat::BF16, [1, 3000, 400]);
}

#[test]
fn products_of_many_tokens_are_those_of_the_reference() {
    let gpu = device();
    for dtype in HALVES {
        for format in formats(dtype) {
            for shape in [[65, 100, 72], [130, 328, 65]] {
                check(&gpu, dtype, format, shape);
            }
        }
    }
    check(&gpu, DType::F16, GpuFormat::F16, [128, 64, 400]);
}

#[test]
fn products_of_f32_take_weights_of_any_format() {
    let gpu = device();
    for format in formats(DType::F32) {
        for shape in [[1, 8, 1], [3, 100, 17], [9, 320, 40]] {
            check(&gpu, DType::F32, format, shape);
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others_by_every_kernel() {
    let (n, out) = (130, 40);
    let gpu = device();
    for dtype in HALVES {
        for format in formats(dtype) {
            // Three chunks, the last one of a step and a few numbers; and one that is not even a step.
            for inn in [584, 40] {
                let w = weights(&gpu, format, out, inn);
                let x = on_gpu(&gpu, &activations(dtype, n, inn), &[n, inn], dtype);
                let by = |variant, x: &GpuTensor| {
                    bits(&values_of(&linear_by(Some(variant), x, &w, None, DType::F32).unwrap()))
                };
                let all = by(Variant::Tile64, &x);
                for (variant, most) in VARIANTS {
                    for (first, count) in [(0, 130), (3, 1), (60, 7), (100, 16), (70, 30)] {
                        // Tiles are slow here, so not each of them takes all.
                        let worth = count <= 32 || (variant == Variant::Tile128) == (inn > 100);
                        if count <= most && worth && variant.takes(format) {
                            let y = by(variant, &x.rows(first, count).unwrap());
                            assert_eq!(y, all[first * out..][..count * out], "{format} {variant:?}");
                        }
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
        for format in formats(dtype) {
            let w = weights(&gpu, format, 2 * inner, inn);
            for (variant, n) in [
                (Variant::Gated8, 1),
                (Variant::Gated8, 7),
                (Variant::Wide(Wide::Of64x64), 65),
                (Variant::Wide(Wide::Of128x64), 3),
                (Variant::Wide(Wide::Of128x128), 130),
                (Variant::Wide(Wide::Of128x192), 9),
                (Variant::Wide(Wide::Pair256x128), 140),
                (Variant::Wide(Wide::Pair256x192), 65),
            ] {
                if variant.takes(format) {
                    let x = on_gpu(&gpu, &activations(dtype, n, inn), &[n, inn], dtype);
                    let two = silu_mul(&linear(&x, &w, None, dtype).unwrap()).unwrap();
                    let one = gated_linear_by(Some(variant), &x, &w).unwrap();
                    assert_eq!(bits(&values_of(&one)), bits(&values_of(&two)), "{format} {variant:?}");
                }
            }
        }
    }
    // Halves that are no whole tiles, and numbers that tensor cores do not take.
    let w = weights(&gpu, GpuFormat::F32, 2 * 17, 40);
    for dtype in [DType::F32, DType::BF16] {
        let w = if dtype == DType::F32 { &w } else { &weights(&gpu, GpuFormat::Q8, 2 * 17, 40) };
        let x = on_gpu(&gpu, &activations(dtype, 2, 40), &[2, 40], dtype);
        let two = silu_mul(&linear(&x, w, None, dtype).unwrap()).unwrap();
        assert_eq!(values_of(&gated_linear(&x, w).unwrap()), values_of(&two));
    }
}

/// Blocks of warpgroups have several units one after another, also where a step less than a chunk is left and where outputs end between two
/// of sixteen bytes.
#[test]
fn units_that_follow_each_other_have_the_bits_of_others() {
    let gpu = device();
    for (format, n, inn, out) in
        [(GpuFormat::BF16, 200, 330, 333), (GpuFormat::Fp8, 450, 40, 640), (GpuFormat::BF16, 65, 520, 1104)]
    {
        let w = weights(&gpu, format, out, inn);
        let x = on_gpu(&gpu, &activations(DType::BF16, n, inn), &[n, inn], DType::BF16);
        let bias = on_gpu(&gpu, &rounded_to(DType::BF16, &noise(8, out)), &[out], DType::BF16);
        for dtype in [DType::BF16, DType::F32] {
            let by =
                |variant| bits(&values_of(&linear_by(Some(variant), &x, &w, Some(&bias), dtype).unwrap()));
            let exact = by(Variant::Small64);
            for variant in Wide::ALL.map(Variant::Wide) {
                assert!(by(variant) == exact, "{format} {variant:?} {dtype:?}");
            }
        }
    }
}

#[test]
fn a_row_of_f32_has_the_same_bits_alone_and_among_others() {
    let (gpu, inn, out) = (device(), 300, 20);
    for format in formats(DType::F32) {
        let w = weights(&gpu, format, out, inn);
        let x = on_gpu(&gpu, &activations(DType::F32, 9, inn), &[9, inn], DType::F32);
        let all = bits(&values_of(&linear(&x, &w, None, DType::F32).unwrap()));
        for row in 0..9 {
            let alone = linear(&x.rows(row, 1).unwrap(), &w, None, DType::F32).unwrap();
            assert_eq!(bits(&values_of(&alone)), all[row * out..][..out]);
        }
    }
}

#[test]
fn rows_longer_than_what_shared_memory_keeps_are_added_up_in_rounds() {
    let gpu = device();
    for (variant, n, inn) in [(Variant::Stream8, 2, 20_000usize), (Variant::Stream32, 9, 5000)] {
        assert!(variant.slots(inn.div_ceil(64)) < inn.div_ceil(256));
        let w = weights(&gpu, GpuFormat::BF16, 18, inn);
        let x = activations(DType::BF16, n, inn);
        let on_device = on_gpu(&gpu, &x, &[n, inn], DType::BF16);
        let y = values_of(&linear_by(Some(variant), &on_device, &w, None, DType::F32).unwrap());
        assert_close(&y, &reference::linear(&x, &numbers_of(&w), None, inn), 1e-4);
        let tile = linear_by(Some(Variant::Small64), &on_device, &w, None, DType::F32).unwrap();
        assert_eq!(bits(&y), bits(&values_of(&tile)));
    }
}

#[test]
fn no_order_of_threads_changes_anything() {
    let (n, inn, out) = (20, 600, 40);
    let x = activations(DType::BF16, n, inn);
    for format in [GpuFormat::BF16, GpuFormat::Q4] {
        for (variant, most) in VARIANTS.into_iter().filter(|(variant, _)| variant.takes(format)) {
            let n = n.min(most);
            let mut found = devices().map(|gpu| {
                let x = on_gpu(&gpu, &x[..n * inn], &[n, inn], DType::BF16);
                let w = weights(&gpu, format, out, inn);
                values_of(&linear_by(Some(variant), &x, &w, None, DType::F32).unwrap())
            });
            let first = found.next().unwrap();
            assert!(found.all(|other| bits(&other) == bits(&first)), "{format} {variant:?}");
        }
    }
}

#[test]
fn a_weight_that_is_no_number_reaches_its_own_output_alone() {
    let gpu = device();
    for format in [GpuFormat::BF16, GpuFormat::Fp8, GpuFormat::Q8] {
        let (inn, out) = (100, 20);
        let mut numbers = noise(9, out * inn);
        numbers[3 * inn + 99] = f32::NAN;
        let mut builder = GpuMatrixBuilder::new(&gpu, format, out, inn).unwrap();
        builder.rows(0, Stored::F32, &stored(DType::F32, &numbers)).unwrap();
        let w = builder.finish().unwrap();
        for n in [2, 70] {
            let x = on_gpu(&gpu, &activations(DType::BF16, n, inn), &[n, inn], DType::BF16);
            let y = values_of(&linear(&x, &w, None, DType::BF16).unwrap());
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), i % out == 3, "output {i} of {format}");
            }
        }
    }
}

#[test]
fn nothing_is_done_for_no_tokens_and_what_does_not_fit_is_refused() {
    let gpu = device();
    let w = weights(&gpu, GpuFormat::BF16, 4, 8);
    let x = |dims: &[usize], dtype| on_gpu(&gpu, &vec![1.0; dims.iter().product()], dims, dtype);
    let none = GpuTensor::of_buffer(&gpu.allocate(16).unwrap(), &[0, 8], DType::BF16).unwrap();
    assert_eq!(linear(&none, &w, None, DType::BF16).unwrap().dims(), [0, 4]);
    let fits = x(&[2, 8], DType::BF16);
    assert!(linear(&fits, &w, None, DType::F32).is_ok());
    assert!(linear(&fits, &w, None, DType::F16).is_err());
    assert!(linear(&fits, &w, Some(&x(&[3], DType::BF16)), DType::BF16).is_err());
    assert!(linear(&fits, &w, Some(&x(&[4], DType::F32)), DType::BF16).is_err());
    assert!(linear(&x(&[2, 7], DType::BF16), &w, None, DType::BF16).is_err());
    assert!(linear(&x(&[2, 8], DType::F16), &w, None, DType::F16).is_err());
    gpu.wait().unwrap();
}

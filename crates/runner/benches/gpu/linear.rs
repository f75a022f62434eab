//! Products with weights: for decode steps by how fast weights are read, for prompts by how fast numbers are multiplied.

use candle_core::DType;
use vlinders_device::{DeviceError, Gpu};
use vlinders_kernels::gpu::{GpuFormat, GpuMatrix, LinearVariant, can_round_activations, linear_by};

use crate::Setting;
use crate::clock::{random, report, seconds_of, seconds_of_library};

/// Formats, and whether activations have eight bits too.
const FORMATS: [(GpuFormat, bool); 5] = [
    (GpuFormat::BF16, false),
    (GpuFormat::Fp8, false),
    (GpuFormat::Fp8, true),
    (GpuFormat::Q8, false),
    (GpuFormat::Q4, false),
];
/// The most matrices that are rotated.
const MOST_SETS: usize = 32;

pub(crate) fn run(setting: Setting) {
    let (gpu, model) = (setting.gpu(), setting.model);
    for (name, out, inn) in model.matrices() {
        for (format, eight_bits) in FORMATS {
            let Some(matrices) = rotated(setting, &gpu, format, eight_bits, out, inn) else { continue };
            let format = name_of(format, eight_bits);
            for &n in model.decode_rows {
                let seconds = seconds(model.rounds, &gpu, &matrices, n, None);
                let bytes = matrices[0].num_bytes() + 2 * n * (inn + out);
                let what = format!("linear {name} {format} n={n}");
                report(&what, bytes as f64 / seconds / 1e9, "GB/s", "\"of\": \"copy\"");
            }
            // A head has a row for each prompt, not for each token.
            for &n in model.prefill_rows.iter().filter(|_| name != "head") {
                let seconds = seconds(model.rounds, &gpu, &matrices[..1], n, None);
                let what = format!("linear {name} {format} n={n}");
                let of = format!("\"of\": \"cublaslt {name} n={n}\"");
                report(&what, flops(n, out, inn) / seconds / 1e12, "TFLOP/s", &of);
            }
        }
        if name != "head" {
            model.prefill_rows.iter().for_each(|&n| library(setting, &gpu, name, n, out, inn));
        }
    }
}

fn name_of(format: GpuFormat, eight_bits: bool) -> String {
    if eight_bits { format!("{format}+fp8") } else { format.to_string() }
}

/// Random matrices, so many that no cache holds them. `None` where activations of eight bits are not multiplied.
fn rotated(
    setting: Setting,
    gpu: &Gpu,
    format: GpuFormat,
    eight_bits: bool,
    out: usize,
    inn: usize,
) -> Option<Vec<GpuMatrix>> {
    if eight_bits && !can_round_activations(gpu) {
        return None;
    }
    let matrix = |seed| {
        let mut matrix = GpuMatrix::random(gpu, format, out, inn, seed).expect("memory");
        if eight_bits {
            matrix.round_activations().expect("kernels");
        }
        matrix
    };
    let first = matrix(0);
    let sets = setting.model.rotated_bytes.div_ceil(first.num_bytes()).clamp(1, MOST_SETS);
    Some(std::iter::once(first).chain((1..sets).map(|seed| matrix(seed as u64))).collect())
}

fn flops(n: usize, out: usize, inn: usize) -> f64 {
    2.0 * n as f64 * out as f64 * inn as f64
}

/// Each kernel that can do it, for the formats that differ most: what `Variant::choose` should be decided by.
pub(crate) fn variants(setting: Setting) {
    let (gpu, model) = (setting.gpu(), setting.model);
    let rounds = model.rounds.min(2);
    for (format, eight_bits) in FORMATS.into_iter().filter(|(format, _)| *format != GpuFormat::Q8) {
        for (name, out, inn) in model.matrices() {
            let Some(matrices) = rotated(setting, &gpu, format, eight_bits, out, inn) else { continue };
            let format = name_of(format, eight_bits);
            for &n in model.variant_rows.iter().filter(|n| name != "head" || **n <= 256) {
                for variant in LinearVariant::all().filter(|variant| variant.can(n, &matrices[0])) {
                    let what = format!("variants {name} {format} {n} {variant:?}");
                    if setting.wants(&what) {
                        let seconds = seconds(rounds, &gpu, &matrices, n, Some(variant));
                        report(&what, 1e6 * seconds, "us", "");
                    }
                }
            }
        }
    }
}

fn seconds(
    rounds: usize,
    gpu: &Gpu,
    matrices: &[GpuMatrix],
    n: usize,
    variant: Option<LinearVariant>,
) -> f64 {
    let x = random(gpu, n, matrices[0].in_features());
    seconds_of(gpu, rounds, matrices.len(), |i| {
        let y = linear_by(variant, &x, &matrices[i], None, DType::BF16);
        y.map(drop).map_err(|error| DeviceError::Tensor(error.to_string()))
    })
}

/// The same product by the vendor's library.
fn library(setting: Setting, gpu: &Gpu, name: &str, n: usize, out: usize, inn: usize) {
    let (x, w) = (random(gpu, n, inn), random(gpu, out, inn));
    if let Some(seconds) = seconds_of_library(gpu, setting.model.rounds, &x, &w) {
        report(&format!("cublaslt {name} n={n}"), flops(n, out, inn) / seconds / 1e12, "TFLOP/s", "");
    }
}

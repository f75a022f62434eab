//! How long a kernel takes, numbers to give it, and how results are printed.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use vlinders_device::{DeviceError, Gpu, GpuTensor};

use crate::measured::median;

/// The least time of a round, in seconds: what starts and ends it is small beside it.
const ROUND: f64 = 0.02;
/// The most that a round repeats its calls.
const MOST_REPEATS: f64 = 100.0;
/// Copies of a round, each of which is long.
const COPIES: usize = 8;
/// Rows of random numbers that are repeated where more are asked for.
const RANDOM_ROWS: usize = 256;

/// Print one number. `more` are further fields, as JSON.
pub(crate) fn report(what: &str, value: f64, unit: &str, more: &str) {
    let comma = if more.is_empty() { "" } else { ", " };
    println!("{{\"what\": \"{what}\", \"value\": {value:.6}, \"unit\": \"{unit}\"{comma}{more}}}");
}

/// Seconds of one call on the device, the median of `rounds`. Call `i` of `sets` uses the `i`th of as many inputs; all calls are
/// captured in a graph, so launching them takes the host no time.
pub(crate) fn seconds_of(
    gpu: &Gpu,
    rounds: usize,
    sets: usize,
    mut call: impl FnMut(usize) -> Result<(), DeviceError>,
) -> f64 {
    // Kernels are loaded when they are first launched.
    call(0).expect("a call");
    gpu.wait().expect("a device");
    let graph = gpu.capture(|| (0..sets).try_for_each(&mut call)).expect("a graph");
    let run = |repeats: usize| {
        let started = Instant::now();
        for _ in 0..repeats {
            graph.launch().expect("a launch");
        }
        gpu.wait().expect("a device");
        started.elapsed().as_secs_f64()
    };
    if rounds == 1 {
        return run(1) / sets as f64;
    }
    run(1);
    let repeats = (ROUND / run(1)).ceil().clamp(1.0, MOST_REPEATS) as usize;
    median((0..rounds).map(|_| run(repeats)).collect()) / (repeats * sets) as f64
}

/// Seconds of a large copy, the median of `rounds`. Not in a graph, where a copy engine would do it, which is slower.
pub(crate) fn seconds_of_copies(gpu: &Gpu, rounds: usize, from: &GpuTensor, to: &GpuTensor) -> f64 {
    let run = |copies: usize| {
        let started = Instant::now();
        (0..copies).for_each(|_| gpu.copy(from, to).expect("a copy"));
        gpu.wait().expect("a device");
        started.elapsed().as_secs_f64() / copies as f64
    };
    run(1);
    median((0..rounds).map(|_| run(COPIES)).collect())
}

/// Seconds of a product of two tensors in bf16 by the vendor's library, if there is one here.
pub(crate) fn seconds_of_library(gpu: &Gpu, rounds: usize, x: &GpuTensor, w: &GpuTensor) -> Option<f64> {
    let product = || gpu.product_of_tensors(x, w, DType::BF16).map(drop);
    if let Err(error) = product() {
        eprintln!("products of the vendor's library are not measured: {error}");
        return None;
    }
    Some(seconds_of(gpu, rounds, 1, |_| product()))
}

/// Random numbers in bf16 between -1 and 1.
pub(crate) fn random(gpu: &Gpu, rows: usize, cols: usize) -> GpuTensor {
    let few = rows.min(RANDOM_ROWS);
    let numbers = noise(few * cols).map(bf16::from_f32).collect::<Vec<_>>();
    let few = tensor(gpu, Tensor::from_vec(numbers, (few, cols), &Device::Cpu));
    repeated(gpu, &few, rows)
}

/// The same in f32, between -8 and 8.
pub(crate) fn random_logits(gpu: &Gpu, rows: usize, cols: usize) -> GpuTensor {
    let few = rows.min(RANDOM_ROWS);
    let numbers = noise(few * cols).map(|x| 8.0 * x).collect::<Vec<_>>();
    tensor(gpu, Tensor::from_vec(numbers, (few, cols), &Device::Cpu))
}

/// Whole numbers on the device.
pub(crate) fn words(gpu: &Gpu, words: Vec<u32>, dims: &[usize]) -> GpuTensor {
    tensor(gpu, Tensor::from_vec(words, dims, &Device::Cpu))
}

/// Memory that stays, for a tensor.
pub(crate) fn memory(gpu: &Gpu, dims: &[usize], dtype: DType) -> GpuTensor {
    let buffer = gpu.allocate(dims.iter().product::<usize>() * dtype.size_in_bytes()).expect("memory");
    GpuTensor::of_buffer(&buffer, dims, dtype).expect("a tensor")
}

fn repeated(gpu: &Gpu, few: &GpuTensor, rows: usize) -> GpuTensor {
    let (count, cols) = (few.dims()[0], few.dims()[1]);
    let all = memory(gpu, &[rows, cols], few.dtype());
    for first in (0..rows).step_by(count) {
        let part = count.min(rows - first);
        let to = all.rows(first, part).expect("rows");
        gpu.copy(&few.rows(0, part).expect("rows"), &to).expect("a copy");
    }
    all
}

fn tensor(gpu: &Gpu, tensor: candle_core::Result<Tensor>) -> GpuTensor {
    GpuTensor::upload(gpu, &tensor.expect("a tensor")).expect("memory")
}

/// Numbers between -1 and 1.
fn noise(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

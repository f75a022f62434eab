//! The kernels, at the shapes of a Llama of 1.2 billion parameters.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::limits::Measured;
use candle_core::{Device, Tensor};
use vlinders_kernels::{
    AttentionBatch, AttentionSpec, Format, KvDtype, KvLayer, PackedWeight, Stored, kv_write, linear,
    paged_attention, round_rows,
};

/// Weights that a kernel walks through before it meets the same one again, so that none is found in a cache.
const WALK: usize = 1 << 30;

/// A kernel with its arguments.
pub(crate) struct Work {
    pub(crate) name: String,
    /// The limit that its multiply-adds have.
    pub(crate) rate: fn(&Measured) -> f64,
    pub(crate) bytes: f64,
    pub(crate) flops: f64,
    run: Box<dyn Fn(usize)>,
    pub(crate) repeats: usize,
    next: Cell<usize>,
}

/// A kernel whose arguments are not yet made.
pub(crate) struct Plan {
    pub(crate) name: String,
    make: Box<dyn Fn(String) -> Work>,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn prepare(&self) -> Work {
        (self.make)(self.name.clone())
    }
}

// === impl Work ===

impl Work {
    /// Time of one run, over enough runs to be measured.
    pub(crate) fn seconds(&self) -> f64 {
        let start = Instant::now();
        for _ in 0..self.repeats {
            let index = self.next.get();
            self.next.set(index + 1);
            (self.run)(index);
        }
        start.elapsed().as_secs_f64() / self.repeats as f64
    }
}

pub(crate) fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    let formats = [
        (Format::BF16, true),
        (Format::BF16, false),
        (Format::F16, false),
        (Format::F32, false),
        (Format::Q8, false),
        (Format::Q4, false),
        (Format::Q4K, false),
        (Format::Q5K, false),
        (Format::Q6K, false),
    ];
    for (format, rounds) in formats {
        let rounded = if rounds { " rounded" } else { "" };
        for (out, inn) in [(512, 2048), (2048, 2048), (16384, 2048), (2048, 8192), (128_256, 2048)] {
            for n in [1, 2, 4, 8, 16, 64, 512] {
                if out > 100_000 && n > 64 {
                    continue;
                }
                plans.push(Plan {
                    name: format!("linear {format}{rounded} {inn}->{out} x{n}"),
                    make: Box::new(move |name| product(name, format, rounds, out, inn, n)),
                });
            }
        }
    }
    for dtype in [KvDtype::BF16, KvDtype::F16, KvDtype::F32, KvDtype::Int8] {
        for (sequences, length, tokens) in
            [(1, 1024, 1), (16, 1024, 1), (1, 8192, 1), (1, 16_384, 1), (1, 512, 512), (1, 4096, 512)]
        {
            plans.push(Plan {
                name: format!("attention {dtype} {sequences}x{length} x{tokens}"),
                make: Box::new(move |name| attention(name, dtype, sequences, length, tokens)),
            });
        }
    }
    plans
}

fn noise(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(len)
    .collect()
}

fn tensor(shape: &[usize]) -> Tensor {
    Tensor::from_vec(noise(shape.iter().product()), shape, &Device::Cpu).expect("a tensor")
}

fn product(name: String, format: Format, rounds: bool, out: usize, inn: usize, n: usize) -> Work {
    let bytes = format.packed_bytes(out, inn).expect("a size that can be counted");
    let rows = row(format, inn).repeat(out);
    let weights: Vec<Arc<PackedWeight>> = (0..WALK.div_ceil(bytes))
        .map(|_| {
            let mut weight = PackedWeight::pack(format, out, inn, &rows).expect("a weight");
            weight.round_activations(rounds);
            Arc::new(weight)
        })
        .collect();
    let x = tensor(&[n, inn]);
    let flops = 2.0 * (out * inn * n) as f64;
    Work {
        name,
        rate: match format {
            _ if rounds => |limits| limits.pair_flops,
            _ if format.dtype().is_none() => |limits| limits.code_ops,
            _ => |limits| limits.flops,
        },
        bytes: (bytes + 4 * n * (out + inn)) as f64,
        flops,
        repeats: ((bytes as f64 / 20e9).max(flops / 100e9).recip() * 0.05).ceil().clamp(1.0, 2000.0) as usize,
        next: Cell::new(0),
        run: Box::new(move |i| {
            linear(&x, &weights[i % weights.len()], None).expect("a product");
        }),
    }
}

/// One row as a file has it. Any bits will do, as long as no number is a NaN or denormal.
fn row(format: Format, inn: usize) -> Vec<u8> {
    let numbers = noise(inn);
    let encode = |v: &f32| match format {
        Format::F16 => half::f16::from_f32(*v).to_le_bytes().to_vec(),
        Format::BF16 => half::bf16::from_f32(*v).to_le_bytes().to_vec(),
        _ => v.to_le_bytes().to_vec(),
    };
    let bytes: Vec<u8> = numbers.iter().flat_map(encode).collect();
    match format.dtype() {
        Some(_) => bytes,
        None => round_rows(format, Stored::F32, inn, &bytes).expect("whole blocks"),
    }
}

fn attention(name: String, dtype: KvDtype, sequences: usize, length: usize, tokens: usize) -> Work {
    let (heads, kv_heads, d, block_size) = (32, 8, 64, 16);
    let blocks = sequences * length / block_size;
    let block_bytes =
        KvLayer::bytes_per_block(dtype, block_size, kv_heads, d).expect("a size that can be counted");
    let layer_bytes = blocks * block_bytes;
    let layers: Vec<KvLayer> = (0..WALK.div_ceil(layer_bytes).min(16))
        .map(|_| {
            let layer = KvLayer::new(dtype, blocks, block_size, kv_heads, d).expect("a cache");
            let (k, v) =
                (tensor(&[sequences * length, kv_heads, d]), tensor(&[sequences * length, kv_heads, d]));
            let slots: Vec<u32> = (0..(sequences * length) as u32).collect();
            kv_write(&layer, &k, &v, &slots).expect("a filled cache");
            layer
        })
        .collect();
    let per_table = length / block_size;
    let batch = AttentionBatch {
        positions: (0..sequences * tokens).map(|i| (length - tokens + i % tokens) as u32).collect(),
        sequence_of: (0..sequences * tokens).map(|i| (i / tokens) as u32).collect(),
        block_tables: (0..blocks as u32).collect(),
        table_starts: (0..=sequences).map(|s| (s * per_table) as u32).collect(),
    };
    let q = tensor(&[sequences * tokens, heads, d]);
    let spec = AttentionSpec { scale: 0.125, window: None, soft_cap: None };
    let seen: usize = batch.positions.iter().map(|p| *p as usize + 1).sum();
    let flops = 4.0 * (seen * heads * d) as f64;
    Work {
        name,
        rate: |limits| limits.flops,
        bytes: layer_bytes as f64,
        flops,
        repeats: ((layer_bytes as f64 / 15e9).max(flops / 60e9).recip() * 0.05).ceil().clamp(1.0, 2000.0)
            as usize,
        next: Cell::new(0),
        run: Box::new(move |i| {
            paged_attention(&q, &layers[i % layers.len()], &batch, &spec).expect("attention");
        }),
    }
}

//! Times of `paged_attention`: decode at several lengths and numbers of sequences, and prefill chunks, in tokens and in
//! bytes of keys and values a second.
//!
//! Layers are taken in turn, as a model does, so that those of a long context come from memory and not from a cache.
//! `roofline` has the same as shares of what the machine can do.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vlinders_kernels::{AttentionBatch, AttentionSpec, KvDtype, KvLayer, kv_write, paged_attention};

/// Bytes of all layers together: several times a third-level cache.
const WALK: usize = 256 << 20;

fn bench(c: &mut Criterion) {
    let (heads, kv_heads, d, block_size) = (32, 8, 64, 16);
    for (sequences, length, tokens) in
        [(1, 1024, 1), (16, 1024, 1), (1, 8192, 1), (1, 32_768, 1), (1, 512, 512)]
    {
        let mut group = c.benchmark_group(format!("attention/{sequences}x{length}x{tokens}"));
        group.sample_size(20);
        let per_table = length / block_size;
        let blocks = sequences * per_table;
        let batch = AttentionBatch {
            positions: (0..sequences * tokens).map(|i| (length - tokens + i % tokens) as u32).collect(),
            sequence_of: (0..sequences * tokens).map(|i| (i / tokens) as u32).collect(),
            block_tables: (0..blocks as u32).collect(),
            table_starts: (0..=sequences).map(|s| (s * per_table) as u32).collect(),
        };
        let q = Tensor::zeros((sequences * tokens, heads, d), DType::F32, &Device::Cpu).expect("queries");
        let spec = AttentionSpec { scale: 0.125, window: None, soft_cap: None };
        for dtype in [KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::Int8] {
            let bytes = blocks * KvLayer::bytes_per_block(dtype, block_size, kv_heads, d).expect("a size");
            let layers: Vec<KvLayer> =
                (0..WALK.div_ceil(bytes)).map(|_| filled(dtype, blocks, block_size, kv_heads, d)).collect();
            let mut layers = layers.iter().cycle();
            group.throughput(Throughput::ElementsAndBytes {
                elements: (sequences * tokens) as u64,
                bytes: bytes as u64,
            });
            group.bench_with_input(BenchmarkId::from_parameter(dtype), &q, |b, q| {
                b.iter(|| {
                    let layer = layers.next().expect("a layer");
                    paged_attention(black_box(q), layer, &batch, &spec).expect("attention")
                });
            });
        }
        group.finish();
    }
}

/// A cache of ones: pages that were never written would all be the same one.
fn filled(dtype: KvDtype, blocks: usize, block_size: usize, kv_heads: usize, d: usize) -> KvLayer {
    let layer = KvLayer::new(dtype, blocks, block_size, kv_heads, d).expect("a cache");
    let ones =
        Tensor::ones((blocks * block_size, kv_heads, d), DType::F32, &Device::Cpu).expect("keys and values");
    let slots: Vec<u32> = (0..(blocks * block_size) as u32).collect();
    kv_write(&layer, &ones, &ones, &slots).expect("a filled cache");
    layer
}

criterion_group!(benches, bench);
criterion_main!(benches);

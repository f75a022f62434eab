//! Times of `paged_attention`: decode at several lengths and numbers of sequences, and prefill chunks.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vlinders_kernels::{AttentionBatch, AttentionSpec, KvLayer, paged_attention};

fn bench(c: &mut Criterion) {
    let (heads, kv_heads, d, block_size) = (32, 8, 64, 16);
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let mut group = c.benchmark_group(format!("attention/{}", dtype.as_str()));
        for (sequences, length, tokens) in [(1, 1024, 1), (16, 1024, 1), (1, 16_384, 1), (1, 512, 512)] {
            let per_table = length / block_size;
            let blocks = sequences * per_table;
            let layer = KvLayer::new(dtype, blocks, block_size, kv_heads, d).expect("a cache");
            let batch = AttentionBatch {
                positions: (0..sequences * tokens).map(|i| (length - tokens + i % tokens) as u32).collect(),
                sequence_of: (0..sequences * tokens).map(|i| (i / tokens) as u32).collect(),
                block_tables: (0..blocks as u32).collect(),
                table_starts: (0..=sequences).map(|s| (s * per_table) as u32).collect(),
            };
            let q = Tensor::zeros((sequences * tokens, heads, d), DType::F32, &Device::Cpu).expect("queries");
            let spec = AttentionSpec { scale: 0.125, window: None, soft_cap: None };
            group.throughput(Throughput::Elements((sequences * tokens) as u64));
            group.sample_size(10);
            let id = BenchmarkId::from_parameter(format!("{sequences}x{length}x{tokens}"));
            group.bench_with_input(id, &q, |b, q| {
                b.iter(|| paged_attention(black_box(q), &layer, &batch, &spec).expect("attention"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);

//! Times of what lies between the projection to queries, keys and values and attention: in one pass, and by the operations
//! that do one step each.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use vlinders_kernels::{
    HeadNorms, KvDtype, KvLayer, Rotation, keep_freed_memory, kv_write, qkv, rms_norm, rope,
};

fn bench(c: &mut Criterion) {
    // As a server does.
    keep_freed_memory();
    let (heads, kv_heads, d, block_size) = (32, 8, 64, 16);
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor");
    for (tokens, with_norms) in [(1, false), (1, true), (16, false), (512, false), (512, true)] {
        let norms = if with_norms { "norms" } else { "plain" };
        let mut group = c.benchmark_group(format!("qkv/{tokens}/{norms}"));
        group.sample_size(30);
        let rows = ones(&[tokens, (heads + 2 * kv_heads) * d]);
        let (cos, sin, weight) = (ones(&[1024, d / 2]), ones(&[1024, d / 2]), ones(&[d]));
        let positions: Vec<u32> = (0..tokens as u32).collect();
        for dtype in [KvDtype::BF16, KvDtype::Int8] {
            let layer = KvLayer::new(dtype, 64, block_size, kv_heads, d).expect("a cache");
            group.bench_function(BenchmarkId::new("one pass", dtype), |b| {
                b.iter(|| {
                    let norms = with_norms.then_some(HeadNorms { q: &weight, k: &weight, eps: 1e-5 });
                    let rotation = Rotation { cos: &cos, sin: &sin, positions: &positions[..] };
                    qkv(black_box(&rows), norms, rotation, &layer, &positions).expect("queries")
                });
            });
            group.bench_function(BenchmarkId::new("one by one", dtype), |b| {
                b.iter(|| {
                    let part = |first: usize, heads: usize| {
                        let part = black_box(&rows).narrow(1, first * d, heads * d).expect("columns");
                        part.contiguous().expect("a copy").reshape((tokens, heads, d)).expect("heads")
                    };
                    let finish = |x: Tensor| {
                        let x = if with_norms { rms_norm(&x, &weight, 1e-5).expect("norms") } else { x };
                        rope(&x, &cos, &sin, &positions).expect("a rotation")
                    };
                    let (q, k) = (finish(part(0, heads)), finish(part(heads, kv_heads)));
                    kv_write(&layer, &k, &part(heads + kv_heads, kv_heads), &positions).expect("a write");
                    q
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);

//! Times of `linear` at the shapes of a Llama of 1.2 billion parameters.

#![allow(missing_docs, reason = "a program")]

use std::hint::black_box;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vlinders_kernels::{PackedWeight, linear};

fn bench(c: &mut Criterion) {
    for (dtype, width) in [(DType::BF16, 2), (DType::F16, 2), (DType::F32, 4)] {
        for (out, inn) in [(512, 2048), (2048, 2048), (16_384, 2048), (2048, 8192)] {
            let mut group = c.benchmark_group(format!("linear/{}/{inn}x{out}", dtype.as_str()));
            let weight = PackedWeight::pack(dtype, out, inn, &vec![0; out * inn * width]).expect("a weight");
            let weight = Arc::new(weight);
            for n in [1, 4, 16, 64, 512] {
                let x = Tensor::zeros((n, inn), DType::F32, &Device::Cpu).expect("rows");
                group.throughput(Throughput::Elements((out * inn * n) as u64));
                group.sample_size(10);
                group.bench_with_input(BenchmarkId::from_parameter(n), &x, |b, x| {
                    b.iter(|| linear(black_box(x), &weight, None).expect("a product"));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);

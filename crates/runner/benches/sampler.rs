//! Time to sample one token from 128k logits.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use vlinders_engine::SamplingParams;
use vlinders_runner::{History, Sampler};

const VOCAB: usize = 128_256;

/// Logits as a model gives them: roughly normal, with a few that stand out.
fn logits() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut logits: Vec<f32> =
        (0..VOCAB).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 3.0 - 9.0).collect();
    for i in 0..40 {
        logits[i * 3001] += 8.0 + 6.0 * uniform();
    }
    logits
}

fn params() -> SamplingParams {
    SamplingParams {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition_penalty: 1.0,
        logit_bias: Vec::new(),
        seed: 1,
        logprobs: None,
        prompt_logprobs: None,
        min_tokens: 0,
        suppressed: Vec::new(),
    }
}

fn sampler(criterion: &mut Criterion) {
    let logits = logits();
    let mut group = criterion.benchmark_group("sampler 128k");
    let cases = [
        ("greedy", SamplingParams { temperature: 0.0, ..params() }),
        ("greedy with 20 logprobs", SamplingParams { temperature: 0.0, logprobs: Some(20), ..params() }),
        ("temperature", SamplingParams { temperature: 0.7, ..params() }),
        ("top-k 50", SamplingParams { top_k: 50, ..params() }),
        ("top-p 0.95", SamplingParams { top_p: 0.95, ..params() }),
        ("top-p 0.95, flat", SamplingParams { top_p: 0.95, temperature: 5.0, ..params() }),
        ("min-p 0.05", SamplingParams { min_p: 0.05, ..params() }),
        (
            "all",
            SamplingParams {
                temperature: 0.7,
                top_k: 50,
                top_p: 0.9,
                min_p: 0.02,
                repetition_penalty: 1.1,
                presence_penalty: 0.5,
                frequency_penalty: 0.5,
                logprobs: Some(5),
                ..params()
            },
        ),
    ];
    for (name, params) in cases {
        let prompt: Vec<u32> = (0..1000).map(|i| i * 17).collect();
        let mut history = History::new(&prompt, &params);
        (0..200).for_each(|i| history.push(i * 31));
        let mut sampler = Sampler::default();
        let mut index = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                index += 1;
                black_box(sampler.sample(black_box(&logits), &params, &history, index))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sampler);
criterion_main!(benches);

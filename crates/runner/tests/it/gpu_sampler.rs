//! The GPU's sampler draws what the CPU's draws. Kernels run emulated, unless the
//! environment names a device for tests.

use candle_core::{DType, Device, Tensor};
use vlinders_device::{Gpu, GpuTensor};
use vlinders_engine::{Sampled, SamplingParams, TokenLogprobs};
use vlinders_kernels::gpu::{Draw, RowLogprobs, Said, SampleRow, TokenStates, logprobs, sample, test_device};
use vlinders_runner::{History, Sampler};

/// A reproducible stream of choices.
struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() % (1 << 24)) as f32 / (1 << 24) as f32
    }

    /// Usually `off`.
    fn perhaps(&mut self, off: f32, low: f32, high: f32) -> f32 {
        if self.below(2) == 0 { off } else { self.between(low, high) }
    }

    fn tokens(&mut self, most: usize, vocab: usize) -> Vec<u32> {
        (0..self.below(most + 1)).map(|_| self.below(vocab.min(60) + 2) as u32).collect()
    }

    /// Spread out, few distinct ones, all equal, or with some that can not be drawn or are no numbers.
    fn logits(&mut self, vocab: usize) -> Vec<f32> {
        let shape = self.below(12);
        let spread = [self.between(0.02, 0.5), self.between(0.5, 12.0)][self.below(2)];
        let mut logits: Vec<f32> = (0..vocab)
            .map(|_| match shape {
                0..6 => (0..4).map(|_| self.between(-spread, spread)).sum(),
                6..9 => (self.below(12) as f32 - 6.0) * 0.5 * 0.0f32.max(spread.round()),
                9 => 1.5,
                _ => self.between(-200.0, 200.0),
            })
            .collect();
        if self.below(8) == 0 {
            let odd =
                [f32::NEG_INFINITY, f32::NEG_INFINITY, -0.0, f32::INFINITY, f32::NAN, 3e38][self.below(6)];
            for _ in 0..=self.below(5) {
                let at = self.below(vocab);
                logits[at] = odd;
            }
        }
        logits
    }

    fn params(&mut self, vocab: usize) -> SamplingParams {
        let (first, second) = (self.below(vocab), self.below(vocab));
        let mut suppressed = self.tokens(2, vocab);
        suppressed.sort_unstable();
        SamplingParams {
            temperature: [0.0, 1.0, 0.3, self.between(0.05, 3.0)][self.below(4)],
            top_p: [1.0, 0.5, self.between(0.01, 1.0), self.between(0.9, 1.0)][self.below(4)],
            top_k: [0, 1 + self.below(6), 1 + self.below(60), 1 + self.below(vocab)][self.below(4)] as u32,
            min_p: [0.0, 0.0, 0.0, 1.0, self.between(0.001, 0.2), self.between(0.001, 1.0)][self.below(6)],
            presence_penalty: self.perhaps(0.0, -2.0, 2.0),
            frequency_penalty: self.perhaps(0.0, -2.0, 2.0),
            repetition_penalty: self.perhaps(1.0, 0.5, 2.0),
            logit_bias: match self.below(3) {
                0 if first != second => {
                    vec![(first as u32, self.between(-100.0, 100.0)), (second as u32, 1.5)]
                }
                _ => Vec::new(),
            },
            seed: self.next() << 20 ^ self.next(),
            logprobs: [None, Some(0), Some(5), Some(20)][self.below(4)],
            prompt_logprobs: None,
            min_tokens: self.below(6) as u32,
            suppressed,
        }
    }
}

/// One sequence on both sides.
struct Case {
    logits: Vec<f32>,
    params: SamplingParams,
    prompt: Vec<u32>,
    generated: Vec<u32>,
}

impl Case {
    fn any(choices: &mut Choices, vocab: usize) -> Self {
        Self {
            logits: choices.logits(vocab),
            params: choices.params(vocab),
            prompt: choices.tokens(10, vocab),
            generated: choices.tokens(10, vocab),
        }
    }

    fn on_cpu(&self) -> Sampled {
        let mut history = History::new(&self.prompt, &self.params);
        self.generated.iter().for_each(|&token| history.push(token));
        Sampler::default().sample(&self.logits, &self.params, &history, self.generated.len() as u32)
    }

    fn row(&self, slot: usize) -> SampleRow {
        let p = &self.params;
        SampleRow::draw(&Draw {
            seed: p.seed,
            index: self.generated.len() as u32,
            slot: Some(slot as u32),
            temperature: p.temperature,
            top_p: p.top_p,
            min_p: p.min_p,
            top_k: p.top_k,
            repetition_penalty: p.repetition_penalty,
            presence_penalty: p.presence_penalty,
            frequency_penalty: p.frequency_penalty,
            min_tokens: p.min_tokens,
            top_logprobs: p.logprobs,
        })
    }

    fn begin(&self, states: &TokenStates, slot: usize) {
        let said = Said {
            prompt: &self.prompt,
            generated: &self.generated,
            suppressed: &self.params.suppressed,
            biases: &self.params.logit_bias,
        };
        states.begin(slot, &said).unwrap();
    }
}

fn device() -> Gpu {
    test_device(2).unwrap()
}

fn upload(gpu: &Gpu, tensor: &Tensor) -> GpuTensor {
    GpuTensor::upload(gpu, tensor).unwrap()
}

fn words_of(tensor: &GpuTensor) -> Vec<u32> {
    tensor.to_cpu().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// What the GPU says to cases of the same vocabulary, one of which is in each slot.
fn on_gpu(gpu: &Gpu, states: &TokenStates, cases: &[Case]) -> Vec<Sampled> {
    let (n, vocab) = (cases.len(), states.vocab());
    let logits: Vec<f32> = cases.iter().flat_map(|case| case.logits.iter().copied()).collect();
    let rows: Vec<u32> = cases.iter().enumerate().flat_map(|(slot, case)| *case.row(slot).words()).collect();
    let logits = upload(gpu, &Tensor::from_vec(logits, (n, vocab), &Device::Cpu).unwrap());
    let rows = upload(gpu, &Tensor::from_vec(rows, (n, SampleRow::WORDS), &Device::Cpu).unwrap());
    let drawn = sample(&logits, &rows, states).unwrap();
    assert_eq!((drawn.dims(), drawn.dtype()), (&[n, 2][..], DType::U32));
    let logprobs = logprobs(&logits, &rows, &drawn).unwrap();
    let (drawn, logprobs) = (words_of(&drawn), words_of(&logprobs));
    let words = logprobs.len() / n;
    std::iter::zip(cases, drawn.chunks(2).zip(logprobs.chunks(words)))
        .map(|(case, (drawn, logprobs))| match SampleRow::outcome([drawn[0], drawn[1]]) {
            Ok(token) => {
                let logprobs = case.params.logprobs.map(|top| {
                    let RowLogprobs { logprob, rank, top } = RowLogprobs::of_words(logprobs, top, vocab);
                    Box::new(TokenLogprobs { logprob, rank, top })
                });
                Sampled::Token { token, logprobs }
            }
            Err(failure) => Sampled::Failed(failure.to_string()),
        })
        .collect()
}

#[track_caller]
fn assert_same(gpu: &Sampled, cpu: &Sampled, case: &Case) {
    let what = format!("{:?} among {} after {:?}", case.params, case.logits.len(), case.generated);
    match (gpu, cpu) {
        (Sampled::Failed(gpu), Sampled::Failed(cpu)) => assert_eq!(gpu, cpu, "{what}"),
        (Sampled::Token { token: a, logprobs: x }, Sampled::Token { token: b, logprobs: y }) => {
            assert_eq!(a, b, "{what}");
            assert_eq!(x.is_some(), y.is_some());
            if let (Some(x), Some(y)) = (x, y) {
                let near = |a: f32, b: f32| {
                    a == b || (a - b).abs() <= 1e-6 * b.abs().max(1.0) || (a.is_nan() && b.is_nan())
                };
                assert!(near(x.logprob, y.logprob), "{} and {}: {what}", x.logprob, y.logprob);
                assert_eq!(x.rank, y.rank, "{what}");
                assert_eq!(x.top.len(), y.top.len());
                for (x, y) in x.top.iter().zip(&y.top) {
                    assert!(x.0 == y.0 && near(x.1, y.1), "{x:?} and {y:?}: {what}");
                }
            }
        }
        _ => panic!("{gpu:?} and {cpu:?}: {what}"),
    }
}

#[test]
fn the_gpu_draws_what_the_cpu_draws() {
    const ROWS: usize = 12;
    let gpu = device();
    let mut choices = Choices(0x9e37_79b9_7f4a_7c15);
    let mut failures = 0;
    for round in 0..100 {
        let vocab = match round {
            0..20 => 1 + choices.below(20),
            20..80 => 1 + choices.below(700),
            _ => 1 + choices.below(3000),
        };
        let states = TokenStates::new(&gpu, ROWS, vocab).unwrap();
        let cases: Vec<Case> = (0..ROWS).map(|_| Case::any(&mut choices, vocab)).collect();
        cases.iter().enumerate().for_each(|(slot, case)| case.begin(&states, slot));
        for (gpu, case) in on_gpu(&gpu, &states, &cases).iter().zip(&cases) {
            let cpu = case.on_cpu();
            failures += u32::from(matches!(cpu, Sampled::Failed(_)));
            assert_same(gpu, &cpu, case);
        }
    }
    assert!((10..300).contains(&failures), "{failures} of 1200 rows failed: most should not, some should");
}

#[test]
fn a_sequence_goes_on_as_on_the_cpu() {
    const ROWS: usize = 4;
    let gpu = device();
    let mut choices = Choices(77);
    let vocab = 50;
    let states = TokenStates::new(&gpu, ROWS, vocab).unwrap();
    let mut cases: Vec<Case> = (0..ROWS).map(|_| Case::any(&mut choices, vocab)).collect();
    for (slot, case) in cases.iter_mut().enumerate() {
        case.params.repetition_penalty = 1.2;
        case.params.frequency_penalty = 0.4;
        case.params.temperature = [0.0, 0.8, 1.0, 1.5][slot];
        case.begin(&states, slot);
    }
    for _ in 0..25 {
        for case in &mut cases {
            case.logits = (0..vocab).map(|_| choices.between(-4.0, 4.0)).collect();
        }
        let outcomes = on_gpu(&gpu, &states, &cases);
        for (outcome, case) in outcomes.iter().zip(&mut cases) {
            assert_same(outcome, &case.on_cpu(), case);
            if let Sampled::Token { token, .. } = outcome {
                case.generated.push(*token);
            }
        }
    }
}

#[test]
fn a_logit_that_is_no_number_does_not_matter_where_it_is_suppressed() {
    let gpu = device();
    let states = TokenStates::new(&gpu, 2, 5).unwrap();
    let params =
        SamplingParams { temperature: 1.0, min_tokens: 2, suppressed: vec![1], ..SamplingParams::default() };
    let case = |index: usize| Case {
        logits: vec![0.5, f32::NAN, -0.0, 0.0, 1.0],
        params: SamplingParams { logprobs: Some(20), seed: 4, ..params.clone() },
        prompt: Vec::new(),
        generated: vec![0; index],
    };
    let cases = [case(1), case(2)];
    cases.iter().enumerate().for_each(|(slot, case)| case.begin(&states, slot));
    let outcomes = on_gpu(&gpu, &states, &cases);
    assert!(matches!(outcomes[0], Sampled::Token { .. }) && matches!(outcomes[1], Sampled::Failed(_)));
    std::iter::zip(&outcomes, &cases).for_each(|(gpu, case)| assert_same(gpu, &case.on_cpu(), case));
}

#[test]
fn a_large_vocabulary_is_sampled_as_on_the_cpu() {
    const VOCAB: usize = 128_256;
    let gpu = device();
    let states = TokenStates::new(&gpu, 8, VOCAB).unwrap();
    let mut choices = Choices(3);
    let mut cases: Vec<Case> = (0..8).map(|_| Case::any(&mut choices, VOCAB)).collect();
    let off = SamplingParams { temperature: 1.0, ..SamplingParams::default() };
    for (i, (case, logits)) in cases.iter_mut().zip([4.0f32, 4.0, 4.0, 0.0, 4.0, 1.0, 4.0, 9.0]).enumerate() {
        // normal, but where all are equal
        case.logits = (0..VOCAB).map(|_| (0..4).map(|_| choices.between(-logits, logits)).sum()).collect();
        let seed = 1000 + i as u64;
        case.params = match i {
            0 => SamplingParams { seed, ..off.clone() },
            1 => SamplingParams { seed, top_p: 0.95, ..off.clone() },
            2 => SamplingParams { seed, top_k: 50, top_p: 0.9, ..off.clone() },
            3 => SamplingParams { seed, top_p: 0.5, ..off.clone() },
            4 => SamplingParams { seed, top_k: 20_000, min_p: 1e-4, ..off.clone() },
            5 => SamplingParams { seed, top_p: 0.999, temperature: 2.0, ..off.clone() },
            6 => SamplingParams { temperature: 0.0, ..off.clone() },
            _ => case.params.clone(),
        };
        case.params.logprobs = [None, Some(20), Some(3)][i % 3];
        case.begin(&states, i);
    }
    for (gpu, case) in on_gpu(&gpu, &states, &cases).iter().zip(&cases) {
        assert_same(gpu, &case.on_cpu(), case);
    }
}

//! Whole models behind an engine: one stream, many streams, one long prompt. Weights are random.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use vlinders_engine::{Executor, ExecutorError, StepOutput, StepPlan};
use vlinders_kernels::gpu::{can_round_activations, use_pairs};
use vlinders_runner::{
    Activations, DType, KvDtype, Leader, LoadOptions, LoadedModel, ModelInfo, NoProgress, Quantization, load,
};

use crate::Setting;
use crate::clock::report;
use crate::measured::{Measured, median};

/// If all tokens take longer than this, in seconds, answers are shortened.
const MOST_SECONDS: f64 = 75.0;
/// Tokens of a step, as a server has them on a GPU.
const STEP: usize = 8192;
const BLOCK: usize = 16;

/// One stream: how fast its tokens follow each other.
pub(crate) fn decode(setting: Setting) {
    let (prompt, answer) = setting.model.single;
    let fp8 = Some(Quantization::Fp8);
    for (name, quantization, activations) in [
        ("bf16", None, Activations::Auto),
        ("fp8", fp8, Activations::Auto),
        ("fp8+fp8", fp8, Activations::Fp8),
    ] {
        if activations == Activations::Fp8 && !can_round_activations(&setting.gpu_of(0)) {
            continue;
        }
        let options = LoadOptions { quantization, activations, ..options(setting, 1, prompt + answer) };
        let single = single(setting, &options);
        let more = format!("\"weights_read\": {}, \"load_s\": {:.3}", single.weights_read, single.loading);
        report(&format!("decode 1 stream {name}"), single.rate, "tokens/s", &more);
    }
}

/// What one stream gets.
pub(crate) struct Single {
    /// Tokens a second.
    pub(crate) rate: f64,
    weights_read: u64,
    /// Seconds.
    loading: f64,
}

pub(crate) fn single(setting: Setting, options: &LoadOptions) -> Single {
    let (prompt, answer) = setting.model.single;
    let started = Instant::now();
    let loaded = loaded(setting, options);
    let loading = started.elapsed().as_secs_f64();
    let weights_read = weights_read(setting, &loaded.info);
    let (mut bench, _) = engine(loaded, 1);
    bench.run(1, prompt, answer.min(8));
    let rounds = (0..rounds(setting)).map(|_| bench.run(1, prompt, answer).1).collect();
    Single { rate: (answer - 1) as f64 / median(rounds), weights_read, loading }
}

/// Few and many streams at once, from the first request to the last token.
pub(crate) fn streams(setting: Setting) {
    let (prompt, answer) = setting.model.lengths;
    let (few, short) = setting.model.few_streams;
    let options = options(setting, setting.model.streams, prompt + answer);
    let (mut bench, log) = engine(loaded(setting, &options), setting.model.streams);
    bench.run(few, prompt, short.min(8));
    log.clear();
    let (first, rest) = bench.run(few, prompt, short);
    report_streams(few, prompt, short, short, (first, rest), "");
    many(setting, &mut bench, &log, "");
}

/// Many streams, whose keys and values have eight bits.
pub(crate) fn streams_int8(setting: Setting) {
    many_in_int8(setting, " int8 cache", None, Activations::Auto);
}

/// The same with weights and activations of eight bits too: the most that a GPU gives.
pub(crate) fn streams_fp8(setting: Setting) {
    if can_round_activations(&setting.gpu_of(0)) {
        many_in_int8(setting, " fp8+fp8, int8 cache", Some(Quantization::Fp8), Activations::Fp8);
    }
}

fn many_in_int8(setting: Setting, kind: &str, quantization: Option<Quantization>, activations: Activations) {
    let (prompt, answer) = setting.model.lengths;
    let options = LoadOptions {
        kv_cache_dtype: Some(KvDtype::Int8),
        quantization,
        activations,
        ..options(setting, setting.model.streams, prompt + answer)
    };
    let (mut bench, log) = engine(loaded(setting, &options), setting.model.streams);
    many(setting, &mut bench, &log, kind);
}

fn many(setting: Setting, bench: &mut Measured, log: &Log, kind: &str) {
    let (streams, (prompt, answer)) = (setting.model.streams, setting.model.lengths);
    // A short run warms up, and tells how long a full one takes.
    let few = 33.min(answer);
    let (first, rest) = bench.run(streams, prompt, few);
    let of_each = rest / (few - 1).max(1) as f64;
    let left = ((MOST_SECONDS - first) / of_each).max(few as f64);
    let generated = if left < answer as f64 { left as usize } else { answer };
    log.clear();
    let times = bench.run(streams, prompt, generated);
    report_streams(streams, prompt, generated, answer, times, kind);
    let steps = log.decodes(streams);
    if steps.is_empty() {
        return;
    }
    let of = |of: fn(&Step) -> f64| median(steps.iter().map(of).collect());
    let period = of(|step| step.period);
    let more = format!("\"steps\": {}, \"in_executor_ms\": {:.4}", steps.len(), 1e3 * of(|step| step.inside));
    report(&format!("step {streams} streams{kind}"), 1e3 * period, "ms", &more);
    report(&format!("steady decode {streams} streams{kind}"), streams as f64 / period, "tokens/s", "");
}

/// Seconds until all had their first token, and from there to the last.
fn report_streams(
    streams: usize,
    prompt: usize,
    answer: usize,
    asked: usize,
    (first, rest): (f64, f64),
    kind: &str,
) {
    let rate = (streams * answer) as f64 / (first + rest);
    let more = format!(
        "\"prompt\": {prompt}, \"answer\": {answer}, \"asked\": {asked}, \"first_s\": {first:.4}, \"rest_s\": {rest:.4}"
    );
    report(&format!("decode {streams} streams{kind}"), rate, "tokens/s", &more);
}

/// One long prompt, all of it in one step: how fast numbers are multiplied until the first token is there.
pub(crate) fn prefill(setting: Setting) {
    let plain = options(setting, 1, setting.model.prompt + 2);
    prefill_of(setting, "", &plain);
    use_pairs(true);
    prefill_of(setting, " by pairs of blocks", &plain);
    use_pairs(false);
    if can_round_activations(&setting.gpu_of(0)) {
        let (quantization, activations) = (Some(Quantization::Fp8), Activations::Fp8);
        prefill_of(setting, " fp8+fp8", &LoadOptions { quantization, activations, ..plain });
    }
}

fn prefill_of(setting: Setting, name: &str, options: &LoadOptions) {
    let prompt = setting.model.prompt;
    let seconds = prompt_seconds(setting, options);
    let rate = setting.model.prefill_flops(prompt) / seconds / 1e12;
    let more = format!("\"of\": \"product\", \"tokens_per_s\": {:.1}", prompt as f64 / seconds);
    report(&format!("prefill {prompt}{name}"), rate, "TFLOP/s", &more);
}

/// Seconds from a long prompt to its first token.
pub(crate) fn prompt_seconds(setting: Setting, options: &LoadOptions) -> f64 {
    let prompt = setting.model.prompt;
    let (mut bench, _) = engine(loaded(setting, options), 1);
    bench.run(1, prompt, 1);
    median((0..rounds(setting)).map(|_| bench.run(1, prompt, 1).0).collect())
}

fn rounds(setting: Setting) -> usize {
    setting.model.rounds.min(3)
}

/// How a model is loaded for so many streams of so many tokens.
pub(crate) fn options(setting: Setting, streams: usize, len: usize) -> LoadOptions {
    LoadOptions {
        device: setting.device,
        dtype: Some(DType::BF16),
        random_weights: true,
        max_model_len: Some(len),
        max_num_seqs: streams,
        max_batched_tokens: STEP.min(streams.max(1) * len),
        memory_fraction: 0.95,
        block_size: BLOCK,
        ..LoadOptions::default()
    }
}

fn loaded(setting: Setting, options: &LoadOptions) -> LoadedModel {
    load(&setting.model.files(), options, &NoProgress).expect("a model that loads")
}

/// Bytes of weights that each step reads: of the table of the embedding, only some rows.
fn weights_read(setting: Setting, info: &ModelInfo) -> u64 {
    info.weight_bytes - (2 * setting.model.vocab * setting.model.hidden) as u64
}

fn engine(loaded: LoadedModel, streams: usize) -> (Measured, Log) {
    let log = Log::default();
    let executor = Timed { executor: loaded.executor, log: log.clone(), last: None };
    let step = STEP.min(streams * loaded.info.max_model_len);
    (Measured::new(&loaded.info, executor, streams, step), log)
}

/// Times of steps.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Step>>>);

/// One step.
#[derive(Clone, Copy)]
struct Step {
    sequences: usize,
    tokens: usize,
    /// Seconds from the end of the step before it to its own.
    period: f64,
    /// Seconds of it that were spent in the executor.
    inside: f64,
}

/// An executor that notes how long steps take.
struct Timed {
    executor: Leader,
    log: Log,
    last: Option<Instant>,
}

// === impl Log ===

impl Log {
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Steps that decoded one token for each of so many sequences, as the step before did.
    fn decodes(&self, sequences: usize) -> Vec<Step> {
        let steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |step: &Step| step.sequences == sequences && step.tokens == sequences;
        steps.windows(2).filter(|pair| pair.iter().all(is_full)).map(|pair| pair[1]).collect()
    }
}

impl Executor for Timed {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        let started = Instant::now();
        let outcome = self.executor.step(plan);
        let ended = Instant::now();
        let step = Step {
            sequences: plan.work.len(),
            tokens: plan.tokens.len(),
            period: (ended - self.last.unwrap_or(started)).as_secs_f64(),
            inside: (ended - started).as_secs_f64(),
        };
        self.last = Some(ended);
        self.log.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        outcome
    }
}

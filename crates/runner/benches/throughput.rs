//! Prefill and decode speed of a model on this machine, through the real engine and without HTTP.
//!
//! `cargo bench -p vlinders-runner --bench throughput -- FOLDER|FILE.gguf [--dtype f32|f16|bf16] [--quantization q8|q4]
//! [--kv-cache-dtype f32|f16|bf16|int8] [--prompt 512] [--answer 64] [--streams 1] [--threads N] [--rounds 3]`
//! prints one line of JSON: tokens a second, medians of the rounds.

#![allow(missing_docs, reason = "a program")]

#[path = "measured/files.rs"]
mod files;
mod measured;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use vlinders_runner::{DType, KvDtype, LoadOptions, NoProgress, Quantization, load, set_num_threads};

use self::files::model_files;
use self::measured::{Measured, median};

const USAGE: &str = "throughput FOLDER|FILE.gguf [--dtype f32|f16|bf16] [--quantization q8|q4] \
                     [--kv-cache-dtype f32|f16|bf16|int8] [--prompt N] [--answer N] [--streams N] [--threads N] \
                     [--rounds N]";

/// Tokens of a step.
const STEP: usize = 512;

struct Options {
    folder: PathBuf,
    dtype: Option<DType>,
    quantization: Option<Quantization>,
    kv_cache_dtype: Option<KvDtype>,
    prompt: usize,
    answer: usize,
    streams: usize,
    threads: Option<usize>,
    rounds: usize,
}

fn options() -> Option<Options> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let folder = PathBuf::from(words.next()?);
    let mut options = Options {
        folder,
        dtype: None,
        quantization: None,
        kv_cache_dtype: None,
        prompt: 512,
        answer: 64,
        streams: 1,
        threads: None,
        rounds: 3,
    };
    while let Some(option) = words.next() {
        let value = words.next()?;
        let number = || value.parse().ok();
        match option.as_str() {
            "--dtype" => {
                options.dtype = match value.as_str() {
                    "f32" => Some(DType::F32),
                    "f16" => Some(DType::F16),
                    "bf16" => Some(DType::BF16),
                    _ => return None,
                }
            }
            "--quantization" => {
                options.quantization = match value.as_str() {
                    "q8" => Some(Quantization::Q8),
                    "q4" => Some(Quantization::Q4),
                    _ => return None,
                }
            }
            "--kv-cache-dtype" => {
                options.kv_cache_dtype = match value.as_str() {
                    "f32" => Some(KvDtype::F32),
                    "f16" => Some(KvDtype::F16),
                    "bf16" => Some(KvDtype::BF16),
                    "int8" => Some(KvDtype::Int8),
                    _ => return None,
                }
            }
            "--prompt" => options.prompt = number()?,
            "--answer" => options.answer = number()?,
            "--streams" => options.streams = number()?,
            "--threads" => options.threads = Some(number()?),
            "--rounds" => options.rounds = number()?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: {USAGE}");
        return ExitCode::FAILURE;
    };
    if let Some(threads) = options.threads {
        set_num_threads(threads);
    }
    let Options { streams, prompt, answer, .. } = options;
    let length = prompt + answer;
    let load_options = LoadOptions {
        dtype: options.dtype,
        quantization: options.quantization,
        kv_cache_dtype: options.kv_cache_dtype,
        max_model_len: Some(length),
        max_num_seqs: streams,
        ..LoadOptions::default()
    };
    let loading = Instant::now();
    let loaded = load(&model_files(options.folder), &load_options, &NoProgress).expect("a model that loads");
    let loading = loading.elapsed().as_secs_f64();
    let info = loaded.info.clone();
    let mut bench = Measured::new(&info, loaded.executor, streams, STEP);
    // Memory for a whole step is there afterwards, as it is in a server that has answered once.
    bench.run(streams, prompt, 2);
    let rounds: Vec<_> = (0..options.rounds).map(|_| bench.run(streams, prompt, answer)).collect();
    let median = |key: fn(&(f64, f64)) -> f64| median(rounds.iter().map(key).collect());
    println!(
        "{{\"format\": \"{}\", \"kv_cache_dtype\": \"{}\", \"streams\": {streams}, \"prompt\": {prompt}, \"answer\": {answer}, \
         \"prefill_tokens_per_s\": {:.2}, \"decode_tokens_per_s\": {:.2}, \"weight_bytes\": {}, \"load_s\": {loading:.2}}}",
        info.format,
        info.kv_cache_dtype,
        (streams * prompt) as f64 / median(|round| round.0),
        (streams * (answer - 1)) as f64 / median(|round| round.1),
        info.weight_bytes,
    );
    ExitCode::SUCCESS
}

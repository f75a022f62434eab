//! A loaded model behind an engine, whose prefill and decode are measured.

use std::time::Instant;

use vlinders_engine::{
    EngineConfig, EngineHandle, Executor, GenerateRequest, Limits, SamplingParams, StopConditions,
    TokenEvent, TokenStream,
};
use vlinders_runner::ModelInfo;

/// An engine, and the limits of its model.
pub(crate) struct Measured {
    engine: EngineHandle,
    limits: Limits,
    submitted: u32,
}

impl Measured {
    /// Start an engine for so many streams at a time, whose steps compute at most `step` tokens.
    pub(crate) fn new(info: &ModelInfo, executor: impl Executor, streams: usize, step: usize) -> Self {
        let config = EngineConfig {
            block_size: info.block_size,
            num_blocks: info.num_blocks,
            max_num_seqs: streams,
            max_batched_tokens: step.max(streams),
            max_waiting: streams,
            max_model_len: info.max_model_len,
            prefix_caching: false,
        };
        let engine = vlinders_engine::start(config, executor, Box::new(())).expect("an engine");
        let limits =
            Limits { max_model_len: info.max_model_len, vocab_size: info.vocab_size, max_logprobs: 0 };
        Self { engine, limits, submitted: 0 }
    }

    /// A stream whose prompt begins like no other.
    fn submit(&mut self, prompt: usize, answer: usize) -> TokenStream {
        self.submitted += 1;
        let vocab = self.limits.vocab_size as u32;
        let tokens = (0..prompt as u32).map(|at| (self.submitted * 7919 + at * 31) % vocab).collect();
        let stop = StopConditions { max_tokens: answer, ..StopConditions::default() };
        let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let request = GenerateRequest::new(tokens, sampling, stop, 0, &self.limits).expect("a valid request");
        self.engine.submit(request).expect("room in the queue")
    }

    /// Seconds until the first token of the last stream, and from there to the last token of all.
    pub(crate) fn run(&mut self, streams: usize, prompt: usize, answer: usize) -> (f64, f64) {
        let started = Instant::now();
        let mut streams: Vec<_> = (0..streams).map(|_| self.submit(prompt, answer)).collect();
        let mut first = started;
        for stream in &mut streams {
            while let Some(event) = stream.blocking_next() {
                if let TokenEvent::Token { .. } = event {
                    break;
                }
            }
            first = Instant::now();
        }
        for stream in &mut streams {
            while stream.blocking_next().is_some() {}
        }
        ((first - started).as_secs_f64(), first.elapsed().as_secs_f64())
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

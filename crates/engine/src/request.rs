//! What a request may ask for: checked once, valid from there on.

use std::sync::Arc;

/// What this model and this server allow.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Prompt and answer together, in tokens.
    pub max_model_len: usize,
    /// Number of token ids; every id is below it.
    pub vocab_size: usize,
    /// The most `logprobs` a request may ask for.
    pub max_logprobs: usize,
}

/// How tokens are drawn from logits. Applied in the order transformers applies them: repetition, presence and
/// frequency penalty, bias, minimum length, temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    /// In (0, 1]; 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub top_k: u32,
    /// In [0, 1]; 0 is off.
    pub min_p: f32,
    /// In [-2, 2]; 0 is off. Looks at generated tokens only.
    pub presence_penalty: f32,
    /// In [-2, 2]; 0 is off. Looks at generated tokens only.
    pub frequency_penalty: f32,
    /// Above 0; 1 is off. Looks at prompt and generated tokens.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens, each in [-100, 100].
    pub logit_bias: Vec<(u32, f32)>,
    /// Start of the request's own random stream.
    pub seed: u64,
    /// Report the log-probability of each generated token, and of this many alternatives.
    pub logprobs: Option<u32>,
    /// The same for prompt tokens. Such a request does not use cached prefixes.
    pub prompt_logprobs: Option<u32>,
    /// Fewer generated tokens than this: `suppressed` can not be drawn.
    pub min_tokens: u32,
    /// Ids that end an answer, not to be drawn before `min_tokens`; sorted.
    pub suppressed: Vec<u32>,
}

/// When an answer ends, apart from stop strings, which only text knows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StopConditions {
    /// End-of-sequence ids of the model; empty when the request ignores them. Sorted.
    pub eos_token_ids: Vec<u32>,
    /// Ids the request named. Sorted.
    pub stop_token_ids: Vec<u32>,
    /// At most this many tokens; at least 1 (0 is allowed when only prompt log-probabilities are wanted).
    pub max_tokens: usize,
    /// At least this many tokens before one of the ids above ends the answer.
    pub min_tokens: usize,
}

/// A request that can be executed: built by [`GenerateRequest::new`], valid from there on.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    prompt: Arc<[u32]>,
    sampling: Arc<SamplingParams>,
    stop: StopConditions,
    priority: i32,
}

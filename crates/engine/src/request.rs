//! What a request may ask for: checked once, valid from there on.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::invalid::InvalidRequest;

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// [`GenerateRequest::new`] sets it to [`StopConditions::min_tokens`].
    pub min_tokens: u32,
    /// Ids that end an answer, not to be drawn before `min_tokens`; sorted.
    /// [`GenerateRequest::new`] sets it to all ids of [`StopConditions`].
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

// === impl Limits ===

impl Limits {
    /// How many tokens an answer may have: what was asked for, or else the room that the prompt leaves.
    #[must_use]
    pub fn max_tokens(&self, prompt_tokens: usize, asked: Option<usize>) -> usize {
        asked.unwrap_or_else(|| self.max_model_len.saturating_sub(prompt_tokens))
    }
}

// === impl SamplingParams ===

/// Draws from the unmodified distribution, and reports nothing but tokens.
impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            logprobs: None,
            prompt_logprobs: None,
            min_tokens: 0,
            suppressed: Vec::new(),
        }
    }
}

impl SamplingParams {
    fn check(&self, limits: &Limits) -> Result<(), InvalidRequest> {
        in_range("temperature", self.temperature, 0.0..=f32::MAX, "at least 0")?;
        in_range("top_p", self.top_p, f32::MIN_POSITIVE..=1.0, "above 0 and at most 1")?;
        in_range("min_p", self.min_p, 0.0..=1.0, "from 0 to 1")?;
        in_range("presence_penalty", self.presence_penalty, -2.0..=2.0, "from -2 to 2")?;
        in_range("frequency_penalty", self.frequency_penalty, -2.0..=2.0, "from -2 to 2")?;
        in_range("repetition_penalty", self.repetition_penalty, f32::MIN_POSITIVE..=f32::MAX, "above 0")?;
        for &(token, bias) in &self.logit_bias {
            in_vocabulary("logit_bias", token, limits)?;
            in_range("logit_bias", bias, -100.0..=100.0, "from -100 to 100")?;
        }
        for (field, asked) in [("logprobs", self.logprobs), ("prompt_logprobs", self.prompt_logprobs)] {
            let asked = asked.unwrap_or(0);
            if asked as usize > limits.max_logprobs {
                return Err(InvalidRequest::TooManyLogprobs { field, asked, max: limits.max_logprobs });
            }
        }
        Ok(())
    }
}

// === impl StopConditions ===

impl StopConditions {
    fn check(&self, prompt: usize, only_prompt: bool, limits: &Limits) -> Result<(), InvalidRequest> {
        let max_tokens = self.max_tokens;
        let max_model_len = limits.max_model_len;
        if max_tokens == 0 && !only_prompt {
            return Err(InvalidRequest::NoTokens);
        }
        if prompt.saturating_add(max_tokens) > max_model_len {
            return Err(InvalidRequest::TooManyTokens { prompt, max_tokens, max_model_len });
        }
        if self.min_tokens > max_tokens {
            return Err(InvalidRequest::MinTokens { min_tokens: self.min_tokens, max_tokens });
        }
        for &token in &self.stop_token_ids {
            in_vocabulary("stop_token_ids", token, limits)?;
        }
        Ok(())
    }
}

// === impl GenerateRequest ===

impl GenerateRequest {
    /// Check everything a request asks for. Lower `priority` is more urgent.
    ///
    /// Ids are sorted and without duplicates afterwards, and the fields of `sampling` that follow from `stop` are set.
    ///
    /// # Errors
    /// The first field that is wrong, with the values it may have.
    pub fn new(
        prompt: Vec<u32>,
        mut sampling: SamplingParams,
        mut stop: StopConditions,
        priority: i32,
        limits: &Limits,
    ) -> Result<Self, InvalidRequest> {
        let length = prompt.len();
        if length == 0 {
            return Err(InvalidRequest::EmptyPrompt);
        }
        // An answer has at least one token, unless none is wanted.
        let room = usize::from(stop.max_tokens > 0);
        if length + room > limits.max_model_len {
            return Err(InvalidRequest::PromptTooLong {
                prompt: length,
                max_model_len: limits.max_model_len,
            });
        }
        for &token in &prompt {
            in_vocabulary("prompt", token, limits)?;
        }
        sampling.check(limits)?;
        stop.check(length, sampling.prompt_logprobs.is_some(), limits)?;

        sort(&mut stop.eos_token_ids);
        sort(&mut stop.stop_token_ids);
        sampling.suppressed = [&stop.eos_token_ids[..], &stop.stop_token_ids[..]].concat();
        sampling.suppressed.retain(|token| (*token as usize) < limits.vocab_size);
        sort(&mut sampling.suppressed);
        sampling.min_tokens = u32::try_from(stop.min_tokens).unwrap_or(u32::MAX);
        Ok(Self { prompt: prompt.into(), sampling: Arc::new(sampling), stop, priority })
    }

    /// The prompt; never empty.
    #[must_use]
    pub fn prompt(&self) -> &Arc<[u32]> {
        &self.prompt
    }

    /// How tokens are drawn.
    #[must_use]
    pub fn sampling(&self) -> &Arc<SamplingParams> {
        &self.sampling
    }

    /// When the answer ends.
    #[must_use]
    pub fn stop(&self) -> &StopConditions {
        &self.stop
    }

    /// Lower is more urgent.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.priority
    }
}

fn sort(ids: &mut Vec<u32>) {
    ids.sort_unstable();
    ids.dedup();
}

/// Not a number is in no range.
fn in_range(
    field: &'static str,
    value: f32,
    range: RangeInclusive<f32>,
    expected: &'static str,
) -> Result<(), InvalidRequest> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(InvalidRequest::OutOfRange { field, value, expected })
}

fn in_vocabulary(field: &'static str, token: u32, limits: &Limits) -> Result<(), InvalidRequest> {
    if (token as usize) < limits.vocab_size {
        return Ok(());
    }
    Err(InvalidRequest::OutOfVocabulary { field, token, vocab_size: limits.vocab_size })
}

#[cfg(test)]
mod tests;

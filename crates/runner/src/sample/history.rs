//! What was said so far, and the processors that look at it: penalties, bias, minimum length.

use std::collections::HashMap;

use vlinders_engine::SamplingParams;

/// Tokens of the prompt and counts of generated tokens, kept only where a penalty needs them.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Distinct tokens of the prompt.
    prompt: Vec<u32>,
    /// How often each token was generated; `None` when nobody asks.
    generated: Option<HashMap<u32, u32>>,
}

// === impl History ===

impl History {
    /// The history of a sequence that has generated nothing.
    #[must_use]
    pub fn new(prompt: &[u32], params: &SamplingParams) -> Self {
        let repetition = params.repetition_penalty != 1.0;
        let mut distinct = Vec::new();
        if repetition {
            distinct.extend_from_slice(prompt);
            distinct.sort_unstable();
            distinct.dedup();
        }
        let counted = repetition || params.presence_penalty != 0.0 || params.frequency_penalty != 0.0;
        Self { prompt: distinct, generated: counted.then(HashMap::new) }
    }

    /// Whether tokens were counted.
    pub(crate) fn has_generated(&self) -> bool {
        self.generated.as_ref().is_some_and(|counts| !counts.is_empty())
    }

    /// A token was generated.
    pub fn push(&mut self, token: u32) {
        if let Some(generated) = &mut self.generated {
            *generated.entry(token).or_default() += 1;
        }
    }
}

/// Whether any of these processors changes a logit.
pub(crate) fn changes(params: &SamplingParams, num_generated: u32) -> bool {
    params.repetition_penalty != 1.0
        || params.presence_penalty != 0.0
        || params.frequency_penalty != 0.0
        || !params.logit_bias.is_empty()
        || (num_generated < params.min_tokens && !params.suppressed.is_empty())
}

/// Apply penalties, bias and minimum length, in this order.
pub(super) fn apply(logits: &mut [f32], params: &SamplingParams, history: &History, num_generated: u32) {
    if let Some(generated) = &history.generated {
        let repetition = params.repetition_penalty;
        if repetition != 1.0 {
            let later = generated.keys().filter(|token| history.prompt.binary_search(token).is_err());
            for &token in history.prompt.iter().chain(later) {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = if *logit < 0.0 { *logit * repetition } else { *logit / repetition };
                }
            }
        }
        if params.presence_penalty != 0.0 || params.frequency_penalty != 0.0 {
            for (&token, &count) in generated {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit -= params.presence_penalty + params.frequency_penalty * count as f32;
                }
            }
        }
    }
    for &(token, bias) in &params.logit_bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    if num_generated < params.min_tokens {
        for &token in &params.suppressed {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

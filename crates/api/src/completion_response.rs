//! `POST /v1/completions`: the answer. Chunks have the same form.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::usage::{FinishReason, Usage};

/// An answer or a chunk of it.
#[derive(Debug, Clone, Serialize)]
pub struct Completion<'a> {
    /// `cmpl-…`
    pub id: &'a str,
    /// Always `text_completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// Name of the model.
    pub model: &'a str,
    /// Names weights, kernels and configuration.
    pub system_fingerprint: &'a str,
    /// One for each of prompts × `n`; in a chunk one, or none where it holds the token counts.
    pub choices: &'a [CompletionChoice<'a>],
    /// Token counts. Absent in chunks unless asked for, then null in all but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// One answer, or what is new of it.
#[derive(Debug, Clone, Serialize)]
pub struct CompletionChoice<'a> {
    /// Prompt × `n` + choice.
    pub index: usize,
    /// The text.
    pub text: &'a str,
    /// Log-probabilities, if asked for.
    pub logprobs: Option<&'a CompletionLogprobs>,
    /// Why it ended; null in all chunks but the last.
    pub finish_reason: Option<FinishReason>,
}

/// Log-probabilities: four lists of the same length, one entry for each token.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CompletionLogprobs {
    /// Tokens as text.
    pub tokens: Vec<String>,
    /// Natural logarithm of their probabilities; null for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The most likely tokens at each place.
    pub top_logprobs: Vec<Option<TopTokens>>,
    /// Where each token begins in the text, in characters.
    pub text_offset: Vec<usize>,
}

/// A map from tokens to log-probabilities, best first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TopTokens(pub Vec<(String, f32)>);

impl Serialize for TopTokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, logprob) in &self.0 {
            map.serialize_entry(token, logprob)?;
        }
        map.end()
    }
}

//! `POST /v1/chat/completions`: the answer, whole or in chunks.
//!
//! Chunks borrow everything: they are written once for each token of each stream.

use serde::Serialize;

use crate::tools::{ToolCall, ToolCallDelta};
use crate::usage::{FinishReason, Usage};

/// A whole answer.
#[derive(Debug, Clone, Serialize)]
pub struct ChatCompletion<'a> {
    /// `chatcmpl-…`
    pub id: &'a str,
    /// Always `chat.completion`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: u64,
    /// Name of the model.
    pub model: &'a str,
    /// Names weights, kernels and configuration: same fingerprint, same answer to the same seed.
    pub system_fingerprint: &'a str,
    /// One for each of `n`.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
    pub usage: Usage,
}

/// One answer.
#[derive(Debug, Clone, Serialize)]
pub struct ChatChoice {
    /// Which of `n`.
    pub index: usize,
    /// What the model says.
    pub message: ChatMessage,
    /// Log-probabilities, if asked for.
    pub logprobs: Option<ChatLogprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Clone, Serialize)]
pub struct ChatMessage {
    /// Always `assistant`.
    pub role: &'static str,
    /// The text; null where it only called tools.
    pub content: Option<String>,
    /// Always null; clients look for it.
    pub refusal: Option<String>,
    /// Tools it called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
}

/// Log-probabilities of an answer or of a chunk.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ChatLogprobs {
    /// One entry for each token.
    pub content: Vec<TokenLogprob>,
}

/// One generated token.
#[derive(Debug, Clone, Serialize)]
pub struct TokenLogprob {
    /// The token as text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// The most likely tokens at its place.
    pub top_logprobs: Vec<TopLogprob>,
}

/// One alternative.
#[derive(Debug, Clone, Serialize)]
pub struct TopLogprob {
    /// The token as text.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A chunk of a streamed answer.
#[derive(Debug, Clone, Serialize)]
pub struct ChatChunk<'a> {
    /// `chatcmpl-…`, the same in all chunks.
    pub id: &'a str,
    /// Always `chat.completion.chunk`.
    pub object: &'static str,
    /// Seconds since 1970, the same in all chunks.
    pub created: u64,
    /// Name of the model.
    pub model: &'a str,
    /// Names weights, kernels and configuration.
    pub system_fingerprint: &'a str,
    /// One entry; none in the chunk with the token counts.
    pub choices: &'a [ChatChunkChoice<'a>],
    /// Absent unless asked for, then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// What is new of one choice.
#[derive(Debug, Clone, Serialize)]
pub struct ChatChunkChoice<'a> {
    /// Which of `n`.
    pub index: usize,
    /// What is new.
    pub delta: ChatDelta<'a>,
    /// Log-probabilities of the tokens of this chunk, if asked for.
    pub logprobs: Option<&'a ChatLogprobs>,
    /// Set in the last chunk of the choice.
    pub finish_reason: Option<FinishReason>,
}

/// What is new of a message.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ChatDelta<'a> {
    /// `assistant`, in the first chunk of a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// New text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
    /// New tool calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<&'a [ToolCallDelta<'a>]>,
}

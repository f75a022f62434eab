//! `POST /v1/chat/completions`: the request.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::fields::fields;
use crate::message::Message;
use crate::sampling::Sampling;
use crate::scalar::Present;
use crate::tools::{Tool, ToolChoice};

/// A conversation to be continued.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatRequest {
    /// The conversation so far. Always `Some` once parsed.
    pub messages: Option<Vec<Message>>,
    /// The newer name of `max_tokens`; it wins where both are given.
    pub max_completion_tokens: Option<u32>,
    /// Report log-probabilities.
    pub logprobs: Option<bool>,
    /// Of this many alternatives for each token.
    pub top_logprobs: Option<u32>,
    /// Tools the model may call.
    pub tools: Option<Vec<Tool>>,
    /// Whether it may.
    pub tool_choice: Option<ToolChoice>,
    /// The predecessor of `tools`: not supported.
    pub functions: Option<Present>,
    /// Documents for templates that know them.
    pub documents: Option<Vec<Value>>,
    /// Further variables of the chat template.
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// End the prompt with the beginning of an answer; on unless the last message is to be continued.
    pub add_generation_prompt: Option<bool>,
    /// Go on with the last message instead of answering it.
    pub continue_final_message: Option<bool>,
    /// Begin the answer with the last message, if that is being continued.
    pub echo: Option<bool>,
    /// Kinds of output; only text exists.
    pub modalities: Option<Vec<String>>,
    /// What completions ask too.
    pub sampling: Sampling,
}

/// How to stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamOptions {
    /// End with a chunk that holds the token counts.
    pub include_usage: bool,
    /// Put the token counts so far into every chunk.
    pub continuous_usage_stats: bool,
}

fields!(ChatRequest {
    messages, max_completion_tokens, logprobs, top_logprobs, tools, tool_choice, functions, documents,
    chat_template_kwargs, add_generation_prompt, continue_final_message, echo, modalities,
} shared sampling: Sampling required messages);

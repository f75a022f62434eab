//! The fields that chat completions and completions have in common.

use serde::Deserialize;

use crate::chat_request::StreamOptions;
use crate::fields::fields;
use crate::logit_bias::LogitBias;
use crate::scalar::{Present, Seed};
use crate::stop::Stop;

/// How to generate; what is not given is decided by the model's `generation_config.json` and the server.
/// Ranges are checked later, where the limits are known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampling {
    /// Name of the model; may be absent where only one is served.
    pub model: Option<String>,
    /// Randomness; 0 is greedy.
    pub temperature: Option<f32>,
    /// Share of the probability mass to draw from.
    pub top_p: Option<f32>,
    /// Number of tokens to draw from; 0 and -1 are off.
    pub top_k: Option<i64>,
    /// Least probability, relative to the most likely token.
    pub min_p: Option<f32>,
    /// Against tokens that have occurred in the answer.
    pub presence_penalty: Option<f32>,
    /// Against tokens, by how often they have occurred in the answer.
    pub frequency_penalty: Option<f32>,
    /// Against tokens that have occurred in prompt or answer.
    pub repetition_penalty: Option<f32>,
    /// Added to logits.
    pub logit_bias: Option<LogitBias>,
    /// Start of the random stream; choice `i` uses `seed + i`.
    pub seed: Option<Seed>,
    /// Number of choices for each prompt.
    pub n: Option<u32>,
    /// More candidates than `n`: not supported.
    pub best_of: Option<u32>,
    /// Strings that end the answer.
    pub stop: Option<Stop>,
    /// Tokens that end the answer.
    pub stop_token_ids: Option<Vec<u32>>,
    /// Keep the stop string or stop token in the text.
    pub include_stop_str_in_output: Option<bool>,
    /// Do not end at the model's own end-of-sequence tokens.
    pub ignore_eos: Option<bool>,
    /// Least number of tokens.
    pub min_tokens: Option<u32>,
    /// Most number of tokens.
    pub max_tokens: Option<u32>,
    /// Answer as server-sent events.
    pub stream: Option<bool>,
    /// How to stream.
    pub stream_options: Option<StreamOptions>,
    /// Lower is served first.
    pub priority: Option<i32>,
    /// Who asks; not used.
    pub user: Option<String>,
    /// Leave special tokens out of the text.
    pub skip_special_tokens: Option<bool>,
    /// Put the special tokens of the tokenizer around the prompt.
    pub add_special_tokens: Option<bool>,
    /// Write tokens in log-probabilities as `token_id:123`.
    pub return_tokens_as_token_ids: Option<bool>,
    /// The form of the answer; only text is supported.
    pub response_format: Option<ResponseFormat>,
    /// Guided generation: not supported.
    pub guided_json: Option<Present>,
    /// Guided generation: not supported.
    pub guided_regex: Option<Present>,
    /// Guided generation: not supported.
    pub guided_choice: Option<Present>,
    /// Guided generation: not supported.
    pub guided_grammar: Option<Present>,
    /// Guided generation: not supported.
    pub structured_outputs: Option<Present>,
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub kind: String,
}

fields!(Sampling {
    model,
    temperature,
    top_p,
    top_k,
    min_p,
    presence_penalty,
    frequency_penalty,
    repetition_penalty,
    logit_bias,
    seed,
    n,
    best_of,
    stop,
    stop_token_ids,
    include_stop_str_in_output,
    ignore_eos,
    min_tokens,
    max_tokens,
    stream,
    stream_options,
    priority,
    user,
    skip_special_tokens,
    add_special_tokens,
    return_tokens_as_token_ids,
    response_format,
    guided_json,
    guided_regex,
    guided_choice,
    guided_grammar,
    structured_outputs,
});

// === impl Sampling ===

impl Sampling {
    /// The first field given that asks for guided generation.
    #[must_use]
    pub fn guided_field(&self) -> Option<&'static str> {
        [
            ("guided_json", self.guided_json),
            ("guided_regex", self.guided_regex),
            ("guided_choice", self.guided_choice),
            ("guided_grammar", self.guided_grammar),
            ("structured_outputs", self.structured_outputs),
        ]
        .into_iter()
        .find_map(|(name, given)| given.map(|Present| name))
    }
}

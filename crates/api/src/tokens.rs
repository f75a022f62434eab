//! `POST /tokenize` and `POST /detokenize`, in vLLM's form.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::message::Message;
use crate::tools::Tool;

/// A text or a conversation to be turned into tokens.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TokenizeRequest {
    /// Name of the model; may be absent where only one is served.
    pub model: Option<String>,
    /// A text; or else
    pub prompt: Option<String>,
    /// a conversation.
    pub messages: Option<Vec<Message>>,
    /// Tools, for the chat template.
    pub tools: Option<Vec<Tool>>,
    /// Put the special tokens of the tokenizer around it; on for a text, off for a conversation, whose template does so.
    pub add_special_tokens: Option<bool>,
    /// End with the beginning of an answer; on unless the last message is to be continued.
    pub add_generation_prompt: Option<bool>,
    /// Go on with the last message.
    pub continue_final_message: Option<bool>,
    /// Further variables of the chat template.
    pub chat_template_kwargs: Option<Map<String, Value>>,
    /// Also give the tokens as strings.
    pub return_token_strs: Option<bool>,
}

/// Its tokens.
#[derive(Debug, Clone, Serialize)]
pub struct TokenizeResponse {
    /// How many.
    pub count: usize,
    /// The most this model takes, prompt and answer together.
    pub max_model_len: usize,
    /// Their ids.
    pub tokens: Vec<u32>,
    /// Their names in the vocabulary, if asked for.
    pub token_strs: Option<Vec<String>>,
}

/// Tokens to be turned into text.
#[derive(Debug, Clone, Deserialize)]
pub struct DetokenizeRequest {
    /// Name of the model; may be absent where only one is served.
    #[serde(default)]
    pub model: Option<String>,
    /// Their ids.
    pub tokens: Vec<u32>,
}

/// Their text.
#[derive(Debug, Clone, Serialize)]
pub struct DetokenizeResponse {
    /// The text, special tokens included.
    pub prompt: String,
}

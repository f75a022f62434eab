//! `POST /v1/completions`: the request.

use crate::fields::fields;
use crate::prompt::Prompt;
use crate::sampling::Sampling;

/// A text to be continued.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CompletionRequest {
    /// The text, texts or tokens. Always `Some` once parsed.
    pub prompt: Option<Prompt>,
    /// Report log-probabilities, of this many alternatives for each token.
    pub logprobs: Option<u32>,
    /// Begin the answer with the prompt.
    pub echo: Option<bool>,
    /// Text after the gap to be filled: not supported.
    pub suffix: Option<String>,
    /// What chat completions ask too.
    pub sampling: Sampling,
}

fields!(CompletionRequest { prompt, logprobs, echo, suffix } shared sampling: Sampling required prompt);

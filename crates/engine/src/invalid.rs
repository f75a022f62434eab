//! What can be wrong with a request, told by field and with the numbers.

/// A request that can not be executed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRequest {
    /// There is nothing to continue.
    #[error("the prompt is empty; give at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt} tokens and the model takes {max_model_len} tokens, prompt and answer together; \
         shorten the prompt"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens allowed.
        max_model_len: usize,
    },
    /// The answer may get longer than the model allows.
    #[error(
        "the prompt has {prompt} tokens and max_tokens is {max_tokens}, together more than the {max_model_len} \
         tokens of the model; lower max_tokens or shorten the prompt"
    )]
    TooManyTokens {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the answer asked for.
        max_tokens: usize,
        /// Tokens allowed.
        max_model_len: usize,
    },
    /// No token is asked for.
    #[error("max_tokens is 0; it must be at least 1, unless log-probabilities of the prompt are asked for")]
    NoTokens,
    /// The answer can not be that long.
    #[error("min_tokens is {min_tokens}; it must be at most max_tokens, which is {max_tokens}")]
    MinTokens {
        /// As asked for.
        min_tokens: usize,
        /// As asked for, or the room the prompt leaves.
        max_tokens: usize,
    },
    /// A number is outside of its range, or is none.
    #[error("{field} is {value}; it must be {expected}")]
    OutOfRange {
        /// The field of the request.
        field: &'static str,
        /// As asked for.
        value: f32,
        /// The range in words.
        expected: &'static str,
    },
    /// The model has no such token.
    #[error("{field} has token id {token}; ids must be below {vocab_size}")]
    OutOfVocabulary {
        /// The field of the request.
        field: &'static str,
        /// The id.
        token: u32,
        /// Number of ids of the model.
        vocab_size: usize,
    },
    /// More alternatives are asked for than allowed.
    #[error("{field} is {asked}; it must be at most {max}")]
    TooManyLogprobs {
        /// The field of the request.
        field: &'static str,
        /// As asked for.
        asked: u32,
        /// The most allowed.
        max: usize,
    },
}

impl InvalidRequest {
    /// The field to change, in this crate's words.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::EmptyPrompt | Self::PromptTooLong { .. } => "prompt",
            Self::TooManyTokens { .. } | Self::NoTokens => "max_tokens",
            Self::MinTokens { .. } => "min_tokens",
            Self::OutOfRange { field, .. }
            | Self::OutOfVocabulary { field, .. }
            | Self::TooManyLogprobs { field, .. } => field,
        }
    }
}

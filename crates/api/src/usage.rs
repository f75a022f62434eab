//! Token counts and the reason an answer ended.

use serde::Serialize;

/// How many tokens a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt, counted once whatever `n` is.
    pub prompt_tokens: usize,
    /// Tokens generated, of all choices together.
    pub completion_tokens: usize,
    /// Both together.
    pub total_tokens: usize,
    /// How the prompt was served.
    pub prompt_tokens_details: PromptTokensDetails,
}

/// How the prompt was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Tokens whose KV was found in the prefix cache.
    pub cached_tokens: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string or stop token was met.
    Stop,
    /// The limit of tokens was met.
    Length,
    /// The model called tools.
    ToolCalls,
}

// === impl Usage ===

impl Usage {
    /// Counts, with their sum.
    #[must_use]
    pub fn new(prompt_tokens: usize, cached_tokens: usize, completion_tokens: usize) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens },
        }
    }
}

// === impl FinishReason ===

impl FinishReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

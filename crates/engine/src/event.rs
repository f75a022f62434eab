//! What a client of the engine hears about its request.

use crate::executor::{PromptLogprobs, TokenLogprobs};

/// One event in the life of a request, in this order: `Scheduled`, `PromptLogprobs` if asked for, any number of
/// `Token`, then one of `Finished` and `Failed`, after which nothing follows. `Failed` may come at any time.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenEvent {
    /// The request left the waiting queue for the first time.
    Scheduled {
        /// Prompt tokens that were found in the prefix cache.
        cached_tokens: usize,
    },
    /// Log-probabilities of the whole prompt, at once, before the first token.
    PromptLogprobs(PromptLogprobs),
    /// One more token of the answer.
    Token {
        /// Its id.
        token: u32,
        /// Given when the request asked for log-probabilities.
        logprobs: Option<Box<TokenLogprobs>>,
    },
    /// The answer is complete.
    Finished {
        /// Why.
        reason: FinishReason,
    },
    /// The request ended without a complete answer.
    Failed(String),
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew an end-of-sequence id or one of the request's stop ids.
    ///
    /// That token is told here and in no [`TokenEvent::Token`]: it is no text of the answer, but it was generated
    /// and counts as one completion token.
    Stop {
        /// The id that ended the answer.
        token: u32,
    },
    /// `max_tokens` were generated.
    Length,
}

impl TokenEvent {
    /// Nothing follows this event.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed(_))
    }

    /// Completion tokens this event stands for, 0 or 1: the sum over a stream is what usage reports.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        usize::from(matches!(self, Self::Token { .. } | Self::Finished { reason: FinishReason::Stop { .. } }))
    }
}

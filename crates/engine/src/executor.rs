//! What the engine asks of a model: execute a plan, give back tokens.

use crate::plan::{SeqId, StepPlan};

/// Executes step plans: a model on its devices, or a fake in tests.
///
/// An executor keeps the state that plans send once (prompt, sampling parameters, block tables) and
/// the tokens it sampled, keyed by [`SeqId`].
pub trait Executor: Send + 'static {
    /// Run one step: write the KV of all fed tokens, and sample for each work item with `sample` set.
    /// A plan may have no work and only say who is gone, so that memory does not stay taken while nothing runs.
    ///
    /// # Errors
    /// An error is about the executor as a whole, not about one sequence: the engine stops and
    /// every request fails. What concerns one sequence is [`Sampled::Failed`].
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError>;
}

/// The executor can not go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the model failed: {0}")]
pub struct ExecutorError(pub String);

/// What a step gave.
#[derive(Debug, Clone, Default)]
pub struct StepOutput {
    /// One entry for each work item with `sample` set, in the order of the plan.
    pub sampled: Vec<Sampled>,
    /// Log-probabilities of prompt tokens, for sequences that asked for them
    /// ([`crate::SamplingParams::prompt_logprobs`]): those that the tokens of this step give, so the run of a
    /// chunk starts one behind its first position. When a prompt is recomputed, what was reported once may be
    /// reported again or left out.
    pub prompt_logprobs: Vec<(SeqId, PromptLogprobs)>,
}

/// The outcome of sampling for one sequence.
#[derive(Debug, Clone)]
pub enum Sampled {
    /// The next token.
    Token {
        /// Its id.
        token: u32,
        /// Given when the request asked for log-probabilities.
        logprobs: Option<Box<TokenLogprobs>>,
    },
    /// No token can be sampled, for instance since all logits are NaN. Ends this request alone.
    Failed(String),
}

/// Log-probabilities (natural logarithm) of the unmodified distribution at one position.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// That of the token itself.
    pub logprob: f32,
    /// How many tokens are more likely than the token, plus one.
    pub rank: u32,
    /// The most likely tokens, best first; ties by lower id.
    pub top: Vec<(u32, f32)>,
}

/// Log-probabilities of a run of prompt tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptLogprobs {
    /// Position in the prompt of the first entry. Position 0 has none, nothing precedes it.
    pub start: u32,
    /// One entry for each prompt token from `start` on.
    pub tokens: Vec<TokenLogprobs>,
}

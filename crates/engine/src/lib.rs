//! The life of a request inside one model: queues, step plans, KV blocks, the step loop.
//!
//! Pure logic: no IO, no clock, no device, no HTTP. A model is behind [`Executor`].

mod executor;
mod plan;
mod request;

pub use self::{
    executor::{Executor, ExecutorError, PromptLogprobs, Sampled, StepOutput, TokenLogprobs},
    plan::{BlockId, SeqId, SequenceWork, StartedSequence, StepPlan},
    request::{GenerateRequest, InvalidRequest, Limits, SamplingParams, StopConditions},
};

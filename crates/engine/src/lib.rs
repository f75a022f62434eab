//! The life of a request inside one model: queues, step plans, KV blocks, the step loop.
//!
//! Pure logic: no IO, no clock, no device, no HTTP. A model is behind [`Executor`]; [`start`] gives it a thread
//! of its own and an [`EngineHandle`] to submit requests with.

mod block;
mod block_pool;
mod block_table;
mod config;
mod engine;
mod event;
mod executor;
mod handle;
mod invalid;
mod lru;
mod mailbox;
mod plan;
mod prefix;
mod request;
mod scheduler;
mod sequence;
mod stats;
mod stream;

#[cfg(test)]
mod fake;

pub use self::{
    block::{MutableBlock, SharedBlock},
    block_pool::BlockPool,
    block_table::BlockTable,
    config::{EngineConfig, InvalidConfig, NeverFits},
    engine::{StartError, start},
    event::{FinishReason, TokenEvent},
    executor::{Executor, ExecutorError, PromptLogprobs, Sampled, StepOutput, TokenLogprobs},
    handle::{EngineHandle, SubmitError},
    invalid::InvalidRequest,
    plan::{BlockId, SeqId, SequenceWork, StartedSequence, StepPlan},
    prefix::{BlockHash, BlockHasher},
    request::{GenerateRequest, Limits, SamplingParams, StopConditions},
    scheduler::{Events, Scheduler},
    stats::{EngineState, Observer, Stats, StepStats},
    stream::{RequestId, TokenStream},
};

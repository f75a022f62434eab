//! The wire types of the OpenAI API and the vLLM extras we understand: what clients send and get.
//!
//! Serde only: no HTTP, no tokens, no defaults that depend on a model. Requests are read by [`parse()`], which
//! says which field is at fault. Fields we do not know are ignored, as OpenAI's own clients expect.

mod chat_request;
mod chat_response;
mod completion_request;
mod completion_response;
mod content;
mod error;
mod fields;
mod logit_bias;
mod message;
mod models;
mod parse;
mod prompt;
mod sampling;
mod scalar;
mod stop;
mod tokens;
mod tools;
mod usage;
mod worker_state;

pub use self::{
    chat_request::{ChatRequest, StreamOptions},
    chat_response::{
        ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatLogprobs, ChatMessage,
        TokenLogprob, TopLogprob,
    },
    completion_request::CompletionRequest,
    completion_response::{Completion, CompletionChoice, CompletionLogprobs, TopTokens},
    content::{Content, ContentPart},
    error::{ErrorBody, ErrorDetail},
    fields::Fields,
    logit_bias::LogitBias,
    message::{Message, Role},
    models::{ModelCard, ModelList},
    parse::{ParseError, parse},
    prompt::{Prompt, PromptInput},
    sampling::{ResponseFormat, Sampling},
    scalar::{Present, Seed},
    stop::Stop,
    tokens::{DetokenizeRequest, DetokenizeResponse, TokenizeRequest, TokenizeResponse},
    tools::{FunctionCall, FunctionHistory, Tool, ToolCall, ToolCallDelta, ToolCallHistory, ToolChoice},
    usage::{FinishReason, PromptTokensDetails, Usage},
    worker_state::{HistogramTotals, LoadPhase, ModelCondition, ModelState, ModelTotals, WorkerState},
};

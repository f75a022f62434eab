//! One architecture per file: its config.json and its forward pass, in the vocabulary of `layers`.
//!
//! To add one: a file with a `Config` and a `CausalLm`, a line in `architectures!`, a golden test.

mod gguf;
mod llama;
mod mistral;
mod mixtral;
mod model;
mod qwen2;
mod qwen3;
mod qwen3_moe;
mod registry;
mod shared;
mod window;

pub use self::{
    gguf::GgufModel,
    model::CausalLm,
    registry::{ARCHITECTURES, Architecture, ModelError, ModelSpec},
};

//! Tiny checkpoints, random checkpoints and golden results: for tests and benches only.

mod checkpoint;
mod error;
mod golden;
mod model;
mod tokenizer;

pub use self::{
    checkpoint::{write_safetensors, Dtype, RandomTensor},
    error::TestkitError,
    golden::{golden_names, golden_root, Golden, GoldenPrompt},
    model::{RandomModel, Shape},
    tokenizer::{chat_files, tokenizer_json},
};

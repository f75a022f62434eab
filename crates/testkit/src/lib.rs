//! Tiny checkpoints, random checkpoints, golden results and real servers to talk to: for tests and benches only.

mod checkpoint;
mod error;
mod gguf;
mod golden;
mod model;
mod postgres;
mod redis;
mod tokenizer;

pub use self::{
    checkpoint::{Dtype, RandomTensor, write_safetensors},
    error::TestkitError,
    gguf::{Encode, GgufData, GgufFile, GgufTensor, GgufValue, gguf_floats},
    golden::{Golden, GoldenPrompt, golden_names, golden_root},
    model::{RandomModel, Shape},
    postgres::Postgres,
    redis::{Redis, RedisCluster},
    tokenizer::{chat_files, tokenizer_json},
};

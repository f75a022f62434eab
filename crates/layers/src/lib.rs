//! The vocabulary of a model author: weights by name, linear, norm, rotary embedding, attention, the flat batch.
//!
//! Tensors of a forward pass are flat, `[tokens, features]`, and no layer knows whether a token is prefilled or
//! decoded. [`Batch`] says which token belongs to whom, [`KvStore`] owns keys and values.

mod attention;
mod batch;
mod checkpoint;
mod config;
mod decoder;
mod embedding;
mod error;
mod kv_store;
mod linear;
mod mlp;
mod norm;
mod precision;
mod rope;
mod weights;

pub use self::{
    attention::{Attention, AttentionConfig},
    batch::{Batch, LogitRows},
    checkpoint::{
        Checkpoint, Gguf, LoadStats, LoadedTensors, Metadata, PackStats, QuantizeStats, TensorInfo,
    },
    config::{check_activation, parse_config},
    decoder::{Decoder, DecoderConfig},
    embedding::{Embedding, LmHead},
    error::LayerError,
    kv_store::{KvShape, KvStore},
    linear::Linear,
    mlp::Mlp,
    norm::RmsNorm,
    precision::{Activations, Precision, Quantization},
    rope::{Rope, RopeConfig, RopeKind},
    weights::{LoadPlan, MatrixKind, MatrixSpec, Part, VectorSpec, Weights},
};
pub use vlinders_kernels::KvDtype;

//! The vocabulary of a model author: weights by name, linear, norm, rotary embedding, attention, the flat batch.
//!
//! A model is written once for any number of ranks: layers ask [`Weights`] for their [`Span`] of a dimension, and those whose
//! outputs are partial add them up over the ranks.
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
mod heads;
mod kv_store;
mod linear;
mod mlp;
mod moe;
mod norm;
mod place;
mod precision;
mod random;
mod ranks;
mod rope;
mod span;
mod weights;

pub use self::{
    attention::{Attention, AttentionConfig},
    batch::{Batch, GpuBatch, GpuBatchLimits, LogitRows},
    checkpoint::{
        Checkpoint, Gguf, GgufExperts, GgufLayout, LoadStats, LoadedTensors, Metadata, PackStats,
        QuantizeStats, TensorInfo, linear_encoding,
    },
    config::{check_activation, parse_config},
    decoder::{Decoder, DecoderConfig},
    embedding::{Embedding, LmHead},
    error::LayerError,
    heads::Heads,
    kv_store::{KvShape, KvStore},
    linear::{Linear, RowParallel},
    mlp::Mlp,
    moe::{ExpertNames, MAX_EXPERTS, MAX_TOP_K, Moe, MoeConfig},
    norm::RmsNorm,
    place::Place,
    precision::{Activations, Precision, Quantization},
    ranks::Ranks,
    rope::{Rope, RopeConfig, RopeKind},
    span::Span,
    weights::{LoadPlan, MatrixKind, MatrixSpec, Part, VectorSpec, Weights},
};
pub use vlinders_kernels::KvDtype;
pub use vlinders_kernels::gpu::AttentionShape;

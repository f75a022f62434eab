//! The operations that models are made of, one per file.
//!
//! Activations are contiguous f32 tensors; weights and KV caches stay as they are stored, see [`Format`] and
//! [`KvDtype`]. Every operation is **batch invariant, bit for bit**: what it computes for one token depends on
//! that token (and its KV) alone, never on other rows, on the number of threads, on chunking or on the
//! instruction set.
//!
//! CPU kernels are written once over sixteen abstract lanes and compiled for each instruction set, which is
//! chosen at run time. [`mod@reference`] has the plain f64 twin of each.

#![allow(
    clippy::needless_range_loop,
    reason = "one index runs through several registers, arrays and pointers at once"
)]
#![allow(
    unsafe_code,
    reason = "vector instructions, raw tiles and scoped threads are what this crate is for"
)]

mod activation;
mod aligned;
mod allocator;
mod attention;
mod bits;
mod element;
mod embedding;
mod error;
mod format;
pub mod gpu;
mod kv;
mod linear;
mod mapping;
mod micro;
mod moe;
mod norm;
mod numa;
pub mod ops;
mod pool;
mod qkv;
mod quant;
pub mod reference;
mod rope;
mod simd;
mod stored;
mod tensor;
#[cfg(test)]
mod testing;
mod topology;
mod weight;

pub use self::{
    activation::silu_mul,
    allocator::keep_freed_memory,
    attention::{AttentionBatch, AttentionSpec, paged_attention},
    embedding::{embedding, embedding_share},
    error::{KernelError, Result},
    format::Format,
    kv::{KvDtype, KvLayer, kv_write},
    linear::{has_bf16_products, linear},
    mapping::FileMapping,
    moe::{Routing, combine, expert_linear, route},
    norm::{add_rms_norm, rms_norm},
    numa::Placement,
    pool::{
        Binding, ComputeOptions, ComputeReport, Pinning, StepGuard, Team, begin_step, configure_compute,
        default_num_threads, num_threads, parallel_for, set_num_threads, split_threads, usable_cpus,
    },
    qkv::{HeadNorms, Rotation, qkv},
    quant::round_rows,
    rope::rope,
    stored::Stored,
    weight::{PackedWeight, PackedWeightBuilder, TILE_ALIGNMENT, TILE_LAYOUT},
};

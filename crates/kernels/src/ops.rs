//! Each operation on the device of its arguments, which is how layers call it.
//!
//! On the CPU activations are f32. On a GPU they have the type of the model's norms and biases; the residual stream and logits
//! are f32.

use std::sync::Arc;

use candle_core::DType;
use vlinders_device::{DeviceError, GpuTensor, Tensor};

use crate::attention::{AttentionBatch, AttentionSpec};
use crate::error::{KernelError, Result};
use crate::format::Format;
use crate::gpu::{self, GpuAttentionBatch, GpuKvLayer, GpuMatrix};
use crate::kv::{KvDtype, KvLayer};
use crate::weight::PackedWeight;

/// A weight matrix, `[out, in]`.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// Packed, in memory of the host.
    Cpu(Arc<PackedWeight>),
    /// In memory of a device.
    Gpu(Arc<GpuMatrix>),
}

/// Matrices of the experts of a layer, each `[out, in]`.
#[derive(Clone, Debug)]
pub enum Experts {
    /// Packed, in memory of the host: one for each.
    Cpu(Vec<Arc<PackedWeight>>),
    /// In memory of a device, one behind the other.
    Gpu(Arc<GpuMatrix>),
}

/// Which experts tokens go to.
#[derive(Clone, Debug)]
pub enum Routing {
    /// In memory of the host.
    Cpu(crate::Routing),
    /// In memory of a device.
    Gpu(gpu::Routing),
}

/// Keys and values of one layer.
#[derive(Debug)]
pub enum Cache {
    /// In memory of the host.
    Cpu(KvLayer),
    /// In memory of a device.
    Gpu(GpuKvLayer),
}

/// Whole numbers, one for each token of a step: ids, positions, slots, rows.
#[derive(Clone, Copy, Debug)]
pub enum Ids<'a> {
    /// In memory of the host.
    Cpu(&'a [u32]),
    /// In memory of a device.
    Gpu(&'a GpuTensor),
}

/// Which token of a step belongs to which sequence.
#[derive(Clone, Copy, Debug)]
pub enum Sequences<'a> {
    /// In memory of the host.
    Cpu(&'a AttentionBatch),
    /// In memory of a device.
    Gpu(&'a GpuAttentionBatch),
}

/// Norms over each head of queries and of keys.
pub type HeadNorms<'a> = crate::HeadNorms<'a, Tensor>;

/// By which angles heads turn.
pub type Rotation<'a> = crate::Rotation<'a, Tensor, Ids<'a>>;

/// The rows of `table` for `tokens`, `[tokens, hidden]` in f32. `table` has the rows from `first` on of a vocabulary of
/// `vocabulary` tokens; rows that it lacks are zeros, so that the sum over all shares is the embedding.
///
/// # Errors
/// An id that is not in the vocabulary (on a GPU its row is zeros: ids are checked where plans are made), or a failing device.
pub fn embedding(tokens: Ids<'_>, table: &Matrix, first: usize, vocabulary: usize) -> Result<Tensor> {
    const OP: &str = "embedding";
    match (tokens, table) {
        (Ids::Cpu(ids), Matrix::Cpu(table)) => {
            Ok(crate::embedding_share(ids, table, first, vocabulary)?.into())
        }
        (Ids::Gpu(ids), Matrix::Gpu(table)) => Ok(gpu::embedding(ids, table, first)?.into()),
        _ => Err(mixed(OP, "the table")),
    }
}

/// `x w^T + bias` in the type of activations: `x` is `[n, in]`, `bias` `[out]`, the result `[n, out]`.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn linear(x: &Tensor, w: &Matrix, bias: Option<&Tensor>) -> Result<Tensor> {
    product("linear", x, w, bias, x.dtype())
}

/// The same without a bias, in f32.
///
/// # Errors
/// As [`linear`].
pub fn logits(x: &Tensor, w: &Matrix) -> Result<Tensor> {
    product("logits", x, w, None, DType::F32)
}

fn product(op: &'static str, x: &Tensor, w: &Matrix, bias: Option<&Tensor>, out: DType) -> Result<Tensor> {
    match (x, w) {
        (Tensor::Cpu(x), Matrix::Cpu(w)) => {
            let bias = bias.map(|bias| bias.cpu(op, "bias")).transpose()?;
            Ok(crate::linear(x, w, bias)?.into())
        }
        (Tensor::Gpu(x), Matrix::Gpu(w)) => {
            let bias = bias.map(|bias| bias.gpu(op, "bias")).transpose()?;
            Ok(gpu::linear(x, w, bias, out)?.into())
        }
        _ => Err(mixed(op, "the weight")),
    }
}

/// Rows `rows` of `x` `[n, d]`.
///
/// # Errors
/// A row that `x` does not have, or a failing device.
pub fn gather_rows(x: &Tensor, rows: Ids<'_>) -> Result<Tensor> {
    const OP: &str = "gather_rows";
    match (x, rows) {
        (Tensor::Cpu(x), Ids::Cpu(rows)) => {
            let rows = candle_core::Tensor::from_slice(rows, rows.len(), x.device())?;
            Ok(x.index_select(&rows, 0)?.into())
        }
        (Tensor::Gpu(x), Ids::Gpu(rows)) => Ok(gpu::gather_rows(x, rows)?.into()),
        _ => Err(mixed(OP, "the list of rows")),
    }
}

/// `silu(left half) * right half` of each row of `x w^T + bias` `[n, 2 * i]`, giving `[n, i]`.
///
/// # Errors
/// As [`linear`], and an odd number of outputs.
pub fn gated_linear(x: &Tensor, w: &Matrix, bias: Option<&Tensor>) -> Result<Tensor> {
    if let (Tensor::Gpu(x), Matrix::Gpu(w), None) = (x, w, bias) {
        return Ok(gpu::gated_linear(x, w)?.into());
    }
    match linear(x, w, bias)? {
        Tensor::Cpu(gate_up) => Ok(crate::silu_mul(&gate_up)?.into()),
        Tensor::Gpu(gate_up) => Ok(gpu::silu_mul(&gate_up)?.into()),
    }
}

/// Where tokens go whose router says `logits` `[tokens, experts]`: softmax over all experts, then the `top_k` most likely ones. Their
/// probabilities are the weights; with `renormalise`, divided by their sum.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn route(logits: &Tensor, top_k: usize, renormalise: bool) -> Result<Routing> {
    match logits {
        Tensor::Cpu(logits) => Ok(Routing::Cpu(crate::route(logits, top_k, renormalise)?)),
        Tensor::Gpu(logits) => Ok(Routing::Gpu(gpu::route(logits, top_k, renormalise)?)),
    }
}

/// For each of the experts that a token goes to, `down(silu(left half) * right half)` of its row of `gate_up`; and their sum by weight.
/// `x` is `[tokens, in]`, and so is the result.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn experts(x: &Tensor, routing: &Routing, gate_up: &Experts, down: &Experts) -> Result<Tensor> {
    match (x, routing, gate_up, down) {
        (Tensor::Cpu(_), Routing::Cpu(routing), Experts::Cpu(gate_up), Experts::Cpu(down)) => {
            let copies = gather_rows(x, Ids::Cpu(routing.tokens()))?;
            let inner = crate::expert_linear(copies.cpu("experts", "x")?, gate_up, routing)?;
            let said = crate::expert_linear(&crate::silu_mul(&inner)?, down, routing)?;
            Ok(crate::combine(&said, routing)?.into())
        }
        (Tensor::Gpu(x), Routing::Gpu(routing), Experts::Gpu(gate_up), Experts::Gpu(down)) => {
            let copies = gpu::gather_rows(x, &routing.tokens)?;
            let inner = gpu::expert_linear(&copies, gate_up, &routing.offsets, x.dtype())?;
            let said = gpu::expert_linear(&gpu::silu_mul(&inner)?, down, &routing.offsets, x.dtype())?;
            Ok(gpu::combine(&said, routing)?.into())
        }
        _ => Err(mixed("experts", "the experts or where tokens go")),
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension of `x` `[n, d]`, which is the residual stream.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "rms_norm";
    match x {
        Tensor::Cpu(x) => Ok(crate::rms_norm(x, weight.cpu(OP, "weight")?, eps)?.into()),
        Tensor::Gpu(x) => Ok(gpu::rms_norm(x, weight.gpu(OP, "weight")?, eps)?.into()),
    }
}

/// `sum = x + residual`, then `rms_norm(sum)`; returns `(normed, sum)`. The sum is the residual stream.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn add_rms_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    const OP: &str = "add_rms_norm";
    match x {
        Tensor::Cpu(x) => {
            let (residual, weight) = (residual.cpu(OP, "residual")?, weight.cpu(OP, "weight")?);
            let (normed, sum) = crate::add_rms_norm(x, residual, weight, eps)?;
            Ok((normed.into(), sum.into()))
        }
        Tensor::Gpu(x) => {
            let (residual, weight) = (residual.gpu(OP, "residual")?, weight.gpu(OP, "weight")?);
            let (normed, sum) = gpu::add_rms_norm(x, residual, weight, eps)?;
            Ok((normed.into(), sum.into()))
        }
    }
}

/// Split the rows of `qkv` into queries, keys and values; norm (if any) and turn queries and keys; store keys and values of
/// token `i` in slot `slots[i]` of `cache`. Returns the queries, `[n, heads, head_dim]`.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn qkv(
    qkv: &Tensor,
    norms: Option<HeadNorms<'_>>,
    rotation: Rotation<'_>,
    cache: &Cache,
    slots: Ids<'_>,
) -> Result<Tensor> {
    const OP: &str = "qkv";
    match (qkv, cache, rotation.positions, slots) {
        (Tensor::Cpu(qkv), Cache::Cpu(cache), Ids::Cpu(positions), Ids::Cpu(slots)) => {
            let norms = match norms {
                Some(HeadNorms { q, k, eps }) => {
                    Some(crate::HeadNorms { q: q.cpu(OP, "norm of q")?, k: k.cpu(OP, "norm of k")?, eps })
                }
                None => None,
            };
            let (cos, sin) = (rotation.cos.cpu(OP, "cos")?, rotation.sin.cpu(OP, "sin")?);
            Ok(crate::qkv(qkv, norms, crate::Rotation { cos, sin, positions }, cache, slots)?.into())
        }
        (Tensor::Gpu(qkv), Cache::Gpu(cache), Ids::Gpu(positions), Ids::Gpu(slots)) => {
            let norms = match norms {
                Some(HeadNorms { q, k, eps }) => {
                    Some(crate::HeadNorms { q: q.gpu(OP, "norm of q")?, k: k.gpu(OP, "norm of k")?, eps })
                }
                None => None,
            };
            let (cos, sin) = (rotation.cos.gpu(OP, "cos")?, rotation.sin.gpu(OP, "sin")?);
            Ok(gpu::qkv(qkv, norms, crate::Rotation { cos, sin, positions }, cache, slots)?.into())
        }
        _ => Err(mixed(OP, "the cache, or positions or slots")),
    }
}

/// Softmax attention of each query token over keys and values of its sequence, `[n, heads, head_dim]` to
/// `[n, heads * head_dim]`.
///
/// # Errors
/// Shapes that do not fit, or a failing device.
pub fn paged_attention(
    q: &Tensor,
    cache: &Cache,
    sequences: Sequences<'_>,
    spec: &AttentionSpec,
) -> Result<Tensor> {
    const OP: &str = "paged_attention";
    match (q, cache, sequences) {
        (Tensor::Cpu(q), Cache::Cpu(cache), Sequences::Cpu(batch)) => {
            Ok(crate::paged_attention(q, cache, batch, spec)?.into())
        }
        (Tensor::Gpu(q), Cache::Gpu(cache), Sequences::Gpu(batch)) => {
            Ok(gpu::paged_attention(q, cache, batch, spec)?.into())
        }
        _ => Err(mixed(OP, "the cache, or the batch")),
    }
}

fn mixed(op: &'static str, what: &'static str) -> KernelError {
    let wanted = "same device as the other arguments";
    DeviceError::OtherDevice { op, what, found: "other device", wanted }.into()
}

// === impl Cache ===

impl Cache {
    /// Bytes held, keys and values together.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        match self {
            Self::Cpu(layer) => layer.num_bytes(),
            Self::Gpu(layer) => layer.num_bytes(),
        }
    }

    /// The stored type.
    #[must_use]
    pub fn dtype(&self) -> KvDtype {
        match self {
            Self::Cpu(layer) => layer.dtype(),
            Self::Gpu(layer) => layer.dtype(),
        }
    }
}

// === impl Matrix ===

impl Matrix {
    /// How its numbers are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Cpu(matrix) => matrix.format(),
            Self::Gpu(matrix) => matrix.format().into(),
        }
    }

    /// Its rows as the matrices of `count` experts. Each has whole tiles of sixteen rows, unless there is one expert.
    ///
    /// # Errors
    /// When it can not be divided so.
    pub fn split_experts(&self, count: usize) -> Result<Experts> {
        match self {
            Self::Gpu(all) => Ok(Experts::Gpu(Arc::clone(all))),
            Self::Cpu(all) => {
                let rows = all.out_features() / count.max(1);
                let part = |expert| PackedWeight::part(all, expert * rows..(expert + 1) * rows).map(Arc::new);
                (0..count).map(part).collect::<Result<_>>().map(Experts::Cpu)
            }
        }
    }

    /// The matrix, which must be in memory of the host.
    ///
    /// # Errors
    /// When it is not.
    pub fn cpu(&self) -> Result<&Arc<PackedWeight>> {
        match self {
            Self::Cpu(matrix) => Ok(matrix),
            Self::Gpu(_) => Err(mixed("pack", "a matrix")),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        match self {
            Self::Cpu(matrix) => matrix.num_bytes(),
            Self::Gpu(matrix) => matrix.num_bytes(),
        }
    }
}

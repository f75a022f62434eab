//! Attention of flat token batches over paged keys and values.
//!
//! A sequence is read in *spans* of a fixed number of tiles, counted from its first position. For each span a
//! query gets the maximum of its scores, the sum of their exponentials and the weighted sum of the values; the
//! spans of a query are then merged in order. Where a span begins depends on positions alone, so a token gets
//! the same bits as part of a prompt, of a chunk, or alone, and with its spans on one thread or on many.

mod batch;
mod run;
mod softmax;
mod span;
mod unit;

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

pub use self::batch::AttentionBatch;
use crate::error::{KernelError, Result};
use crate::kv::KvLayer;
use crate::simd::Isa;
use crate::tensor::{activations, filled, floats};

const OP: &str = "paged_attention";

/// What scores are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Factor of q · k, usually 1 / sqrt(head_dim).
    pub scale: f32,
    /// How many positions a token sees, its own included; `None` for all before it.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
}

/// Softmax attention of each query token over the keys and values of its sequence at positions `0..=p`, with a
/// window at `p - window + 1..=p`.
///
/// `q` is `[n, heads, head_dim]`, the result `[n, heads * head_dim]`; `heads` is a multiple of the cache's
/// `kv_heads`, and consecutive heads share one.
///
/// # Errors
/// Shapes that do not fit, and ids in `batch` that point outside of it or of the cache.
pub fn paged_attention(
    q: &Tensor,
    layer: &KvLayer,
    batch: &AttentionBatch,
    spec: &AttentionSpec,
) -> Result<Tensor> {
    attention_on(Isa::detect(), q, layer, batch, spec)
}

fn attention_on(
    isa: Isa,
    q: &Tensor,
    layer: &KvLayer,
    batch: &AttentionBatch,
    spec: &AttentionSpec,
) -> Result<Tensor> {
    let q = activations(OP, "q", q)?;
    let shape = layer.shape();
    let [n, heads, d] = q.dims()[..] else {
        return Err(KernelError::shape(OP, format!("q is {:?}, it must be [n, heads, head_dim]", q.dims())));
    };
    if d != shape.head_dim || heads == 0 || heads % shape.kv_heads != 0 {
        return Err(KernelError::shape(
            OP,
            format!(
                "q has {heads} heads of {d}, the cache {} of {}: sizes must agree and heads be a multiple",
                shape.kv_heads, shape.head_dim
            ),
        ));
    }
    if spec.window == Some(0) {
        return Err(KernelError::shape(OP, "a window of 0 sees nothing: use at least 1, or None"));
    }
    batch.check(n, shape)?;
    Ok(q.apply_op1_no_bwd(&Attention { layer, batch, spec, heads, isa })?)
}

struct Attention<'a> {
    layer: &'a KvLayer,
    batch: &'a AttentionBatch,
    spec: &'a AttentionSpec,
    heads: usize,
    isa: Isa,
}

impl CustomOp1 for Attention<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let q = floats(storage, layout)?;
        let (n, heads, d) = layout.shape().dims3()?;
        // SAFETY: all results are written, and the batch was checked against the cache.
        let out = unsafe {
            filled(q.len(), |out| {
                run::attend(self.isa, q, self.layer, self.batch, self.spec, self.heads, out)
            })?
        };
        Ok((CpuStorage::F32(out), Shape::from((n, heads * d))))
    }
}

#[cfg(test)]
mod tests;

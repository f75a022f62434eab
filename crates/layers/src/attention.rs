//! Causal self-attention over the paged cache, with grouped heads.

use std::sync::Arc;

use vlinders_device::Tensor;
use vlinders_kernels::{AttentionSpec, ops};

use crate::{Batch, Heads, KvStore, LayerError, Linear, RmsNorm, Rope, RowParallel, Weights};

/// The shape of one attention layer.
#[derive(Debug, Clone)]
pub struct AttentionConfig {
    /// Size of a hidden state.
    pub hidden: usize,
    /// Heads of queries, and of keys and values: all, and those of this rank.
    pub heads: Heads,
    /// Numbers of one head.
    pub head_dim: usize,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the output has a bias.
    pub out_bias: bool,
    /// Epsilon of the norms over each head of q and k, in models that have them.
    pub qk_norm_eps: Option<f64>,
    /// How many positions a token sees, itself included; all when `None`.
    pub window: Option<usize>,
}

/// Queries, keys and values as one matrix, rotary embedding, paged attention, output.
pub struct Attention {
    layer: usize,
    spec: AttentionSpec,
    qkv: Linear,
    out: RowParallel,
    norms: Option<(RmsNorm, RmsNorm)>,
    rope: Arc<Rope>,
}

// === impl Attention ===

impl Attention {
    /// `q_proj`, `k_proj`, `v_proj`, `o_proj` (and `q_norm`, `k_norm`) under the prefix of `weights`.
    /// `layer` is the index of its cache.
    ///
    /// # Errors
    /// When a tensor can not be had.
    pub fn new(
        weights: &Weights,
        layer: usize,
        config: AttentionConfig,
        rope: Arc<Rope>,
    ) -> Result<Self, LayerError> {
        let (q, kv) = (config.heads.q.times(config.head_dim), config.heads.kv.times(config.head_dim));
        let outputs = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
        let qkv = Linear::stacked(weights, config.hidden, &outputs, config.qkv_bias)?;
        let out = RowParallel::new(&weights.pp("o_proj"), q, config.hidden, config.out_bias)?;
        let norm = |name, eps| RmsNorm::new(&weights.pp(name), config.head_dim, eps);
        let norms = match config.qk_norm_eps {
            Some(eps) => Some((norm("q_norm", eps)?, norm("k_norm", eps)?)),
            None => None,
        };
        let scale = (config.head_dim as f64).powf(-0.5) as f32;
        let spec = AttentionSpec { scale, window: config.window, soft_cap: None };
        Ok(Self { layer, spec, qkv, out, norms, rope })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`; writes keys and values of these tokens first. Each rank attends with its heads.
    ///
    /// # Errors
    /// When a kernel refuses the shapes.
    pub fn forward(&self, x: &Tensor, batch: &Batch, kv: &KvStore) -> Result<Tensor, LayerError> {
        let qkv = self.qkv.forward(x)?;
        let cache = kv.layer(self.layer)?;
        let norms = self.norms.as_ref().map(|(q, k)| q.of_heads(k));
        let q = ops::qkv(&qkv, norms, self.rope.by(batch.position_ids()), cache, batch.slot_ids())?;
        let seen = ops::paged_attention(&q, cache, batch.sequences(), &self.spec)?;
        self.out.forward(&seen)
    }
}

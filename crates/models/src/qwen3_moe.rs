//! Qwen3-MoE: Qwen3 whose feed-forward networks are experts, in all layers but those that the config leaves out.

use serde::Deserialize;
use vlinders_layers::{Decoder, DecoderConfig, ExpertNames, LayerError, MoeConfig, Weights, parse_config};

use crate::qwen3;

/// What its tensors of experts are called.
pub(crate) const NAMES: ExpertNames =
    ExpertNames { layer: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };

/// The fields of config.json beside those of Qwen3.
#[derive(Debug, Deserialize)]
struct Config {
    num_experts: usize,
    num_experts_per_tok: usize,
    moe_intermediate_size: usize,
    #[serde(default)]
    norm_topk_prob: bool,
    /// Every so many layers one has experts.
    #[serde(default = "default_decoder_sparse_step")]
    decoder_sparse_step: usize,
    /// Layers without experts.
    #[serde(default)]
    mlp_only_layers: Vec<usize>,
}

fn default_decoder_sparse_step() -> usize {
    1
}

/// A Qwen3-MoE model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    let dense = qwen3::decoder(config)?;
    let own: Config = parse_config(config)?;
    if own.decoder_sparse_step == 0 {
        return Err(LayerError::config("decoder_sparse_step", "must be at least 1"));
    }
    let experts = MoeConfig {
        experts: own.num_experts,
        top_k: own.num_experts_per_tok,
        intermediate: own.moe_intermediate_size,
        renormalise: own.norm_topk_prob,
        names: NAMES,
    };
    let is_sparse = |layer: usize| {
        !own.mlp_only_layers.contains(&layer) && (layer + 1).is_multiple_of(own.decoder_sparse_step)
    };
    let layers = dense.experts.len();
    let experts = (0..layers).map(|layer| is_sparse(layer).then(|| experts.clone())).collect();
    Decoder::new(DecoderConfig { experts, ..dense }, weights)
}

//! Mixtral: Mistral whose feed-forward networks are experts, in all layers.

use serde::Deserialize;
use vlinders_layers::{Decoder, DecoderConfig, ExpertNames, LayerError, MoeConfig, Weights, parse_config};

use crate::shared::plain_decoder;

/// What its tensors of experts are called.
pub(crate) const NAMES: ExpertNames =
    ExpertNames { layer: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" };

/// The fields of config.json beside those that all share.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "default_num_key_value_heads")]
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default)]
    sliding_window: Option<usize>,
    #[serde(default = "default_num_local_experts")]
    num_local_experts: usize,
    #[serde(default = "default_num_experts_per_tok")]
    num_experts_per_tok: usize,
}

fn default_num_key_value_heads() -> Option<usize> {
    Some(8)
}

fn default_num_local_experts() -> usize {
    8
}

fn default_num_experts_per_tok() -> usize {
    2
}

/// A Mixtral model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    let plain = plain_decoder(config)?;
    let own: Config = parse_config(config)?;
    let experts = MoeConfig {
        experts: own.num_local_experts,
        top_k: own.num_experts_per_tok,
        intermediate: plain.intermediate_size,
        renormalise: true,
        names: NAMES,
    };
    let layers = plain.windows.len();
    Decoder::new(
        DecoderConfig {
            num_key_value_heads: own.num_key_value_heads.unwrap_or(plain.num_key_value_heads),
            head_dim: own.head_dim.unwrap_or(plain.head_dim),
            windows: vec![own.sliding_window; layers],
            experts: vec![Some(experts); layers],
            ..plain
        },
        weights,
    )
}

//! The fields of config.json that every architecture has, and the plain decoder they describe.

use serde::Deserialize;
use vlinders_layers::{DecoderConfig, LayerError, RopeConfig, check_activation, parse_config};

/// More layers than this are refused later; until then a number from a file must not decide on an allocation.
const MAX_LAYERS: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_rms_norm_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}

fn default_hidden_act() -> String {
    "silu".to_owned()
}

/// A decoder with as many key and value heads as query heads, heads that share the hidden size, and neither biases,
/// norms on heads, experts nor windows: an architecture overrides what it has.
pub(crate) fn plain_decoder(config: &[u8]) -> Result<DecoderConfig, LayerError> {
    let fields: Config = parse_config(config)?;
    check_activation(&fields.hidden_act)?;
    let heads = fields.num_attention_heads;
    Ok(DecoderConfig {
        vocab_size: fields.vocab_size,
        hidden_size: fields.hidden_size,
        intermediate_size: fields.intermediate_size,
        num_hidden_layers: fields.num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim: fields.hidden_size / heads.max(1),
        rms_norm_eps: fields.rms_norm_eps,
        tie_word_embeddings: fields.tie_word_embeddings,
        qkv_bias: false,
        out_bias: false,
        mlp_bias: false,
        qk_norm: false,
        experts: vec![None; fields.num_hidden_layers.min(MAX_LAYERS)],
        windows: vec![None; fields.num_hidden_layers.min(MAX_LAYERS)],
        rope: RopeConfig::parse(config, fields.max_position_embeddings)?,
    })
}

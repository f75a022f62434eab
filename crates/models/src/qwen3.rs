//! Qwen3: norms on each head of q and k, heads whose size is given apart from the hidden size.

use serde::Deserialize;
use vlinders_layers::{
    Decoder, DecoderConfig, LayerError, RopeConfig, Weights, check_activation, parse_config,
};

use crate::window::WindowConfig;

/// The fields of config.json.
#[derive(Debug, Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default = "default_num_key_value_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default = "default_head_dim")]
    head_dim: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_rms_norm_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
}

fn default_num_key_value_heads() -> Option<usize> {
    Some(32)
}

fn default_head_dim() -> usize {
    128
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}

fn default_hidden_act() -> String {
    "silu".to_owned()
}

/// A Qwen3 model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    let windows: WindowConfig = parse_config(config)?;
    let rope = |max| RopeConfig::parse(config, max);
    let config: Config = parse_config(config)?;
    check_activation(&config.hidden_act)?;
    let heads = config.num_attention_heads;
    Decoder::new(
        DecoderConfig {
            vocab_size: config.vocab_size,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: config.num_key_value_heads.unwrap_or(heads),
            head_dim: config.head_dim,
            rms_norm_eps: config.rms_norm_eps,
            tie_word_embeddings: config.tie_word_embeddings,
            qkv_bias: config.attention_bias,
            out_bias: config.attention_bias,
            mlp_bias: false,
            qk_norm: true,
            windows: windows.windows(config.num_hidden_layers.min(1 << 20))?,
            rope: rope(config.max_position_embeddings)?,
        },
        weights,
    )
}

//! Llama 2, 3, 3.1 to 3.3, and what shares their form: grouped queries, optional biases, any rotary scaling.

use serde::Deserialize;
use vlinders_layers::{
    Decoder, DecoderConfig, LayerError, RopeConfig, Weights, check_activation, parse_config,
};

/// The fields of config.json.
#[derive(Debug, Deserialize)]
struct Config {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default = "default_rms_norm_eps")]
    rms_norm_eps: f64,
    #[serde(default = "default_hidden_act")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

fn default_rms_norm_eps() -> f64 {
    1e-6
}

fn default_hidden_act() -> String {
    "silu".to_owned()
}

/// A Llama model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
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
            head_dim: config.head_dim.unwrap_or(config.hidden_size / heads.max(1)),
            rms_norm_eps: config.rms_norm_eps,
            tie_word_embeddings: config.tie_word_embeddings,
            qkv_bias: config.attention_bias,
            out_bias: config.attention_bias,
            mlp_bias: config.mlp_bias,
            qk_norm: false,
            windows: vec![None; config.num_hidden_layers.min(1 << 20)],
            rope: rope(config.max_position_embeddings)?,
        },
        weights,
    )
}

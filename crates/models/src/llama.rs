//! Llama 2, 3, 3.1 to 3.3, and what shares their form: grouped queries, optional biases, any rotary scaling.

use serde::Deserialize;
use vlinders_layers::{Decoder, DecoderConfig, LayerError, Weights, parse_config};

use crate::shared::plain_decoder;

/// The fields of config.json beside those that all share.
#[derive(Debug, Deserialize)]
struct Config {
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// A Llama model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    let plain = plain_decoder(config)?;
    let own: Config = parse_config(config)?;
    Decoder::new(
        DecoderConfig {
            num_key_value_heads: own.num_key_value_heads.unwrap_or(plain.num_key_value_heads),
            head_dim: own.head_dim.unwrap_or(plain.head_dim),
            qkv_bias: own.attention_bias,
            out_bias: own.attention_bias,
            mlp_bias: own.mlp_bias,
            ..plain
        },
        weights,
    )
}

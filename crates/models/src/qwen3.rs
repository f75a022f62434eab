//! Qwen3: norms on each head of q and k, heads whose size is given apart from the hidden size.

use serde::Deserialize;
use vlinders_layers::{Decoder, DecoderConfig, LayerError, Weights, parse_config};

use crate::shared::plain_decoder;
use crate::window::WindowConfig;

/// The fields of config.json beside those that all share.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "default_num_key_value_heads")]
    num_key_value_heads: Option<usize>,
    #[serde(default = "default_head_dim")]
    head_dim: usize,
    #[serde(default)]
    attention_bias: bool,
}

fn default_num_key_value_heads() -> Option<usize> {
    Some(32)
}

fn default_head_dim() -> usize {
    128
}

/// A Qwen3 model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    Decoder::new(decoder(config)?, weights)
}

/// The shape of a Qwen3 model.
pub(crate) fn decoder(config: &[u8]) -> Result<DecoderConfig, LayerError> {
    let plain = plain_decoder(config)?;
    let own: Config = parse_config(config)?;
    let windows: WindowConfig = parse_config(config)?;
    Ok(DecoderConfig {
        num_key_value_heads: own.num_key_value_heads.unwrap_or(plain.num_key_value_heads),
        head_dim: own.head_dim,
        qkv_bias: own.attention_bias,
        out_bias: own.attention_bias,
        qk_norm: true,
        windows: windows.windows(plain.windows.len())?,
        ..plain
    })
}

//! Qwen2 and Qwen2.5: biases on q, k and v; a sliding window from some layer on, where it is switched on.

use serde::Deserialize;
use vlinders_layers::{Decoder, DecoderConfig, LayerError, Weights, parse_config};

use crate::shared::plain_decoder;
use crate::window::WindowConfig;

/// The fields of config.json beside those that all share.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "default_num_key_value_heads")]
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
}

fn default_num_key_value_heads() -> Option<usize> {
    Some(32)
}

/// A Qwen2 model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    let plain = plain_decoder(config)?;
    let own: Config = parse_config(config)?;
    let windows: WindowConfig = parse_config(config)?;
    Decoder::new(
        DecoderConfig {
            num_key_value_heads: own.num_key_value_heads.unwrap_or(plain.num_key_value_heads),
            head_dim: own.head_dim.unwrap_or(plain.head_dim),
            qkv_bias: true,
            windows: windows.windows(plain.windows.len())?,
            ..plain
        },
        weights,
    )
}

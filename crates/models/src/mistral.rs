//! Mistral 7B and its kin: Llama without biases, with a sliding window in every layer.

use serde::Deserialize;
use vlinders_layers::{Decoder, DecoderConfig, LayerError, Weights, parse_config};

use crate::shared::plain_decoder;

/// The fields of config.json beside those that all share.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default = "default_num_key_value_heads")]
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    /// Where the field is absent the window is on; later versions say null.
    #[serde(default = "default_sliding_window")]
    sliding_window: Option<usize>,
}

fn default_num_key_value_heads() -> Option<usize> {
    Some(8)
}

fn default_sliding_window() -> Option<usize> {
    Some(4096)
}

/// A Mistral model.
pub(crate) fn model(config: &[u8], weights: &Weights) -> Result<Decoder, LayerError> {
    let plain = plain_decoder(config)?;
    let own: Config = parse_config(config)?;
    Decoder::new(
        DecoderConfig {
            num_key_value_heads: own.num_key_value_heads.unwrap_or(plain.num_key_value_heads),
            head_dim: own.head_dim.unwrap_or(plain.head_dim),
            windows: vec![own.sliding_window; plain.windows.len()],
            ..plain
        },
        weights,
    )
}

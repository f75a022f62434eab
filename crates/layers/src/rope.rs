//! Rotary position embedding: tables of cosines and sines, one row for each position.
//!
//! All kinds of scaling end in such a table, so the kernel knows none of them. The row of a position depends on that
//! position alone: it is the rotation that feeding one token at a time would apply. For `dynamic` scaling this
//! is a choice, made since prompts are cut into chunks and prefixes are shared: the frequencies of position
//! `p` are those for a sequence of `p + 1` tokens.

mod config;
mod frequencies;

use candle_core::Device;
use vlinders_device::Tensor;
use vlinders_kernels::ops::{Ids, Rotation};

pub use self::config::{RopeConfig, RopeKind};
use crate::{LayerError, Place};

/// Rotates queries and keys by their positions.
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

// === impl Rope ===

impl Rope {
    /// Tables for positions below `max_positions` and heads of `head_dim` numbers, where the model computes.
    ///
    /// # Errors
    /// When `head_dim` and the config do not fit together.
    pub fn new(
        config: &RopeConfig,
        head_dim: usize,
        max_positions: usize,
        place: &Place,
    ) -> Result<Self, LayerError> {
        let rotated = config.rotated(head_dim)?;
        let half = rotated / 2;
        let mut cos = Vec::with_capacity(max_positions * half);
        let mut sin = Vec::with_capacity(max_positions * half);
        let mut frequencies = frequencies::frequencies(config, rotated, 1);
        let scale = config.attention_factor();
        for position in 0..max_positions {
            if config.changes_at(position + 1) {
                frequencies = frequencies::frequencies(config, rotated, position + 1);
            }
            for &frequency in &frequencies {
                // the angle is rounded to f32, as the reference does, its cosine is not
                let angle = f64::from(position as f32 * frequency);
                cos.push((f64::from(angle.cos() as f32) * scale) as f32);
                sin.push((f64::from(angle.sin() as f32) * scale) as f32);
            }
        }
        let shape = (max_positions, half);
        let table = |numbers| place.put_table(candle_core::Tensor::from_vec(numbers, shape, &Device::Cpu)?);
        Ok(Self { cos: table(cos)?, sin: table(sin)? })
    }

    /// The rotation of tokens at `positions`. Of each head the first rotated numbers are turned, the rest is kept.
    pub(crate) fn by<'a>(&'a self, positions: Ids<'a>) -> Rotation<'a> {
        Rotation { cos: &self.cos, sin: &self.sin, positions }
    }
}

#[cfg(test)]
mod tests;

//! A linear map with or without bias.

use std::sync::Arc;

use candle_core::Tensor;
use vlinders_kernels::{self as kernels, PackedWeight};

use crate::{LayerError, Weights};

/// `y = W x + b`, with `W` of `[out, in]`.
pub struct Linear {
    weight: Arc<PackedWeight>,
    bias: Option<Tensor>,
}

// === impl Linear ===

impl Linear {
    /// `weight` and, with `bias`, `bias` under the prefix of `weights`.
    ///
    /// # Errors
    /// When a tensor can not be had.
    pub fn new(weights: &Weights, inputs: usize, outputs: usize, bias: bool) -> Result<Self, LayerError> {
        let weight = weights.matrix("weight", outputs, inputs)?;
        let bias = bias.then(|| weights.vector("bias", outputs)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// Several maps of one input as one, whose output is theirs joined: `(name, outputs)` each.
    ///
    /// # Errors
    /// When a tensor can not be had.
    pub fn stacked(
        weights: &Weights,
        inputs: usize,
        outputs: &[(&str, usize)],
        bias: bool,
    ) -> Result<Self, LayerError> {
        let named = |what: &str| -> Vec<(String, usize)> {
            outputs.iter().map(|(name, rows)| (format!("{name}.{what}"), *rows)).collect()
        };
        let (matrices, vectors) = (named("weight"), named("bias"));
        let weight = weights.stacked_matrix(&borrowed(&matrices), inputs)?;
        let bias = bias.then(|| weights.joined_vector(&borrowed(&vectors))).transpose()?;
        Ok(Self { weight, bias })
    }

    /// `[tokens, in]` to `[tokens, out]`.
    ///
    /// # Errors
    /// When the kernel refuses the shapes.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        Ok(kernels::linear(x, &self.weight, self.bias.as_ref())?)
    }
}

fn borrowed(parts: &[(String, usize)]) -> Vec<(&str, usize)> {
    parts.iter().map(|(name, rows)| (name.as_str(), *rows)).collect()
}

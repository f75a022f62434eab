//! Linear maps with or without bias, whole or split among ranks by outputs or by inputs.

use vlinders_device::Tensor;
use vlinders_kernels::ops::{self, Matrix};

use crate::{LayerError, Ranks, Span, Weights};

/// `y = W x + b`, with `W` of `[out, in]`, or those of the outputs that this rank has.
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
}

/// `y = W x + b` where each rank has some of the inputs: what they compute is added up.
pub struct RowParallel {
    partial: Linear,
    ranks: Ranks,
}

// === impl Linear ===

impl Linear {
    /// `weight` and, with `bias`, `bias` under the prefix of `weights`.
    ///
    /// # Errors
    /// When a tensor can not be had.
    pub fn new(
        weights: &Weights,
        inputs: impl Into<Span>,
        outputs: impl Into<Span>,
        bias: bool,
    ) -> Result<Self, LayerError> {
        let outputs = outputs.into();
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
        outputs: &[(&str, Span)],
        bias: bool,
    ) -> Result<Self, LayerError> {
        let named = |what: &str| -> Vec<(String, Span)> {
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
        Ok(ops::linear(x, &self.weight, self.bias.as_ref())?)
    }

    /// `[tokens, in]` to `[tokens, out / 2]`: `silu(g) * u`, where g is the first half of the outputs and u the second.
    ///
    /// # Errors
    /// When the kernel refuses the shapes.
    pub fn gated(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        Ok(ops::gated_linear(x, &self.weight, self.bias.as_ref())?)
    }
}

// === impl RowParallel ===

impl RowParallel {
    /// `weight` and, with `bias`, `bias` under the prefix of `weights`. The first rank adds the bias, once for all.
    ///
    /// # Errors
    /// When a tensor can not be had.
    pub fn new(weights: &Weights, inputs: Span, outputs: usize, bias: bool) -> Result<Self, LayerError> {
        let ranks = weights.ranks();
        let partial = Linear::new(weights, inputs, outputs, bias && ranks.communicator().rank() == 0)?;
        Ok(Self { partial, ranks })
    }

    /// The inputs of this rank, `[tokens, in]`, to all outputs, `[tokens, out]`.
    ///
    /// # Errors
    /// When the kernel refuses the shapes, or the other ranks are gone.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        self.ranks.all_reduce(self.partial.forward(x)?)
    }
}

fn borrowed(parts: &[(String, Span)]) -> Vec<(&str, Span)> {
    parts.iter().map(|(name, rows)| (name.as_str(), *rows)).collect()
}

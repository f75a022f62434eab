//! The gated feed-forward network.

use candle_core::Tensor;
use vlinders_kernels as kernels;

use crate::{LayerError, Linear, Weights};

/// `down(silu(gate(x)) * up(x))`; gate and up are one matrix in memory.
pub struct Mlp {
    gate_up: Linear,
    down: Linear,
}

// === impl Mlp ===

impl Mlp {
    /// `gate_proj`, `up_proj` and `down_proj` under the prefix of `weights`.
    ///
    /// # Errors
    /// When a tensor can not be had.
    pub fn new(
        weights: &Weights,
        hidden: usize,
        intermediate: usize,
        bias: bool,
    ) -> Result<Self, LayerError> {
        let outputs = [("gate_proj", intermediate), ("up_proj", intermediate)];
        let gate_up = Linear::stacked(weights, hidden, &outputs, bias)?;
        let down = Linear::new(&weights.pp("down_proj"), intermediate, hidden, bias)?;
        Ok(Self { gate_up, down })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    ///
    /// # Errors
    /// When a kernel refuses the shapes.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        let gated = kernels::silu_mul(&self.gate_up.forward(x)?)?;
        self.down.forward(&gated)
    }
}

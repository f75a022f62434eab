//! The gated feed-forward network.

use vlinders_device::Tensor;

use crate::{LayerError, Linear, RowParallel, Weights};

/// `down(silu(gate(x)) * up(x))`; gate and up are one matrix in memory. Ranks share what is between.
pub struct Mlp {
    gate_up: Linear,
    down: RowParallel,
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
        let inner = weights.share(intermediate);
        let gate_up = Linear::stacked(weights, hidden, &[("gate_proj", inner), ("up_proj", inner)], bias)?;
        let down = RowParallel::new(&weights.pp("down_proj"), inner, hidden, bias)?;
        Ok(Self { gate_up, down })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    ///
    /// # Errors
    /// When a kernel refuses the shapes.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        self.down.forward(&self.gate_up.gated(x)?)
    }
}

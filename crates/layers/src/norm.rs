//! Root-mean-square normalisation.

use vlinders_device::Tensor;
use vlinders_kernels::ops::{self, HeadNorms};

use crate::{LayerError, Weights};

/// `x / sqrt(mean(x²) + eps) * weight` over the last dimension.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

// === impl RmsNorm ===

impl RmsNorm {
    /// `weight` under the prefix of `weights`, of length `size`.
    ///
    /// # Errors
    /// When the tensor can not be had.
    pub fn new(weights: &Weights, size: usize, eps: f64) -> Result<Self, LayerError> {
        Ok(Self { weight: weights.vector("weight", size)?, eps })
    }

    /// `[.., size]` to the same shape.
    ///
    /// # Errors
    /// When the kernel refuses the shapes.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor, LayerError> {
        Ok(ops::rms_norm(x, &self.weight, self.eps)?)
    }

    /// The norm of `x + residual`, and `x + residual`, in one pass.
    ///
    /// # Errors
    /// When the kernel refuses the shapes.
    pub fn forward_add(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor), LayerError> {
        Ok(ops::add_rms_norm(x, residual, &self.weight, self.eps)?)
    }

    /// This norm for the heads of queries, `keys` for those of keys; both have the epsilon of this one.
    pub(crate) fn of_heads<'a>(&'a self, keys: &'a Self) -> HeadNorms<'a> {
        HeadNorms { q: &self.weight, k: &keys.weight, eps: self.eps }
    }
}

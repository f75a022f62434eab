//! Token ids to vectors, and vectors to logits; both may share one table.

use std::sync::Arc;

use candle_core::Tensor;
use vlinders_kernels::{self as kernels, PackedWeight};

use crate::{LayerError, Weights};

/// The table of token vectors, `[vocab, hidden]`.
pub struct Embedding {
    table: Arc<PackedWeight>,
}

/// The map from hidden states to logits.
pub struct LmHead {
    weight: Arc<PackedWeight>,
}

// === impl Embedding ===

impl Embedding {
    /// `weight` under the prefix of `weights`.
    ///
    /// # Errors
    /// When the tensor can not be had.
    pub fn new(weights: &Weights, vocab: usize, hidden: usize) -> Result<Self, LayerError> {
        Ok(Self { table: weights.table("weight", vocab, hidden)? })
    }

    /// The vectors of `tokens`, `[tokens, hidden]`.
    ///
    /// # Errors
    /// When an id is outside of the vocabulary.
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor, LayerError> {
        Ok(kernels::embedding(tokens, &self.table)?)
    }
}

// === impl LmHead ===

impl LmHead {
    /// `weight` under the prefix of `weights`.
    ///
    /// # Errors
    /// When the tensor can not be had.
    pub fn new(weights: &Weights, vocab: usize, hidden: usize) -> Result<Self, LayerError> {
        Ok(Self { weight: weights.table("weight", vocab, hidden)? })
    }

    /// The head that shares the table of `embedding`.
    #[must_use]
    pub fn tied(embedding: &Embedding) -> Self {
        Self { weight: Arc::clone(&embedding.table) }
    }

    /// `[rows, hidden]` to `[rows, vocab]`.
    ///
    /// # Errors
    /// When the kernel refuses the shapes.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor, LayerError> {
        Ok(kernels::linear(hidden, &self.weight, None)?)
    }
}

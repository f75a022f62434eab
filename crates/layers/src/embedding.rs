//! Token ids to vectors, and vectors to logits; both may share one table, of which each rank has some tokens.

use std::sync::Arc;

use candle_core::Tensor;
use vlinders_comm::Communicator;
use vlinders_kernels::{self as kernels, PackedWeight};

use crate::{LayerError, Span, Weights};

/// The table of token vectors, `[vocab, hidden]`, or the tokens of it that this rank has.
pub struct Embedding {
    table: Arc<PackedWeight>,
    tokens: Span,
    communicator: Arc<dyn Communicator>,
}

/// The map from hidden states to logits: each rank computes those of its tokens, the first rank gets all.
pub struct LmHead {
    weight: Arc<PackedWeight>,
    communicator: Arc<dyn Communicator>,
}

// === impl Embedding ===

impl Embedding {
    /// `weight` under the prefix of `weights`.
    ///
    /// # Errors
    /// When the tensor can not be had.
    pub fn new(weights: &Weights, vocab: usize, hidden: usize) -> Result<Self, LayerError> {
        let tokens = weights.share(vocab);
        let table = weights.table("weight", tokens, hidden)?;
        Ok(Self { table, tokens, communicator: weights.communicator() })
    }

    /// The vectors of `tokens`, `[tokens, hidden]`.
    ///
    /// # Errors
    /// When an id is outside of the vocabulary, or the other ranks are gone.
    pub fn forward(&self, tokens: &[u32]) -> Result<Tensor, LayerError> {
        let own = kernels::embedding_share(tokens, &self.table, self.tokens.start(), self.tokens.size())?;
        Ok(self.communicator.all_reduce(&own)?)
    }
}

// === impl LmHead ===

impl LmHead {
    /// `weight` under the prefix of `weights`.
    ///
    /// # Errors
    /// When the tensor can not be had.
    pub fn new(weights: &Weights, vocab: usize, hidden: usize) -> Result<Self, LayerError> {
        let weight = weights.table("weight", weights.share(vocab), hidden)?;
        Ok(Self { weight, communicator: weights.communicator() })
    }

    /// The head that shares the table of `embedding`.
    #[must_use]
    pub fn tied(embedding: &Embedding) -> Self {
        let communicator = Arc::clone(&embedding.communicator);
        Self { weight: Arc::clone(&embedding.table), communicator }
    }

    /// `[rows, hidden]` to `[rows, vocab]` on the first rank; `None` on the others.
    ///
    /// # Errors
    /// When the kernel refuses the shapes, or the other ranks are gone.
    pub fn forward(&self, hidden: &Tensor) -> Result<Option<Tensor>, LayerError> {
        Ok(self.communicator.gather(&kernels::linear(hidden, &self.weight, None)?, 0)?)
    }
}

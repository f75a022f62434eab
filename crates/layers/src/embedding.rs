//! Token ids to vectors, and vectors to logits; both may share one table, of which each rank has some tokens.

use vlinders_device::Tensor;
use vlinders_kernels::ops::{self, Matrix};

use crate::{Batch, LayerError, Ranks, Span, Weights};

/// The table of token vectors, `[vocab, hidden]`, or the tokens of it that this rank has.
pub struct Embedding {
    table: Matrix,
    tokens: Span,
    ranks: Ranks,
}

/// The map from hidden states to logits: each rank computes those of its tokens, the first rank gets all.
pub struct LmHead {
    weight: Matrix,
    vocab: usize,
    ranks: Ranks,
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
        Ok(Self { table, tokens, ranks: weights.ranks() })
    }

    /// The vectors of the tokens of `batch`, `[tokens, hidden]`.
    ///
    /// # Errors
    /// When an id is outside of the vocabulary, or the other ranks are gone.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor, LayerError> {
        let own = ops::embedding(batch.token_ids(), &self.table, self.tokens.start(), self.tokens.size())?;
        self.ranks.all_reduce(own)
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
        Ok(Self { weight, vocab, ranks: weights.ranks() })
    }

    /// The head that shares the table of `embedding`.
    #[must_use]
    pub fn tied(embedding: &Embedding) -> Self {
        let weight = embedding.table.clone();
        Self { weight, vocab: embedding.tokens.size(), ranks: embedding.ranks.clone() }
    }

    /// `[rows, hidden]` to `[rows, vocab]` on the first rank; `None` on the others.
    ///
    /// # Errors
    /// When the kernel refuses the shapes, or the other ranks are gone.
    pub fn forward(&self, hidden: &Tensor) -> Result<Option<Tensor>, LayerError> {
        self.ranks.gather(ops::logits(hidden, &self.weight)?, self.vocab)
    }
}

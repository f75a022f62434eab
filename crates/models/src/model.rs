//! What the runner asks of a model.

use candle_core::Tensor;
use vlinders_layers::{Batch, Decoder, KvShape, KvStore, LayerError};

/// A causal language model.
///
/// A row of any result depends on the tokens of its own sequence up to its position and on nothing else: not on the
/// other rows, nor on how the sequence was cut into steps.
pub trait CausalLm: Send {
    /// Hidden states of a flat batch, `[tokens, hidden]`. Keys and values go to `kv`, and those of earlier
    /// positions come from it.
    ///
    /// # Errors
    /// When a kernel refuses, for instance since a token id is outside of the vocabulary.
    fn forward(&self, batch: &Batch, kv: &mut KvStore) -> Result<Tensor, LayerError>;

    /// Logits of hidden states: `[rows, hidden]` to `[rows, vocab]`, f32.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn logits(&self, hidden: &Tensor) -> Result<Tensor, LayerError>;

    /// Number of token ids.
    fn vocab_size(&self) -> usize;

    /// What a token takes in the cache.
    fn kv_shape(&self) -> KvShape;
}

// === impl Decoder ===

impl CausalLm for Decoder {
    fn forward(&self, batch: &Batch, kv: &mut KvStore) -> Result<Tensor, LayerError> {
        Self::forward(self, batch, kv)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor, LayerError> {
        Self::logits(self, hidden)
    }

    fn vocab_size(&self) -> usize {
        Self::vocab_size(self)
    }

    fn kv_shape(&self) -> KvShape {
        Self::kv_shape(self)
    }
}

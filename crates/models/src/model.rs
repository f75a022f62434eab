//! What the runner asks of a model.

use vlinders_device::Tensor;
use vlinders_layers::{Batch, Decoder, KvShape, KvStore, LayerError};

/// A causal language model.
///
/// A row of any result depends on the tokens of its own sequence up to its position and on nothing else: not on the
/// other rows, nor on how the sequence was cut into steps.
///
/// Of a model that is split among ranks this is the share of one. All ranks make the same calls with the same batches.
pub trait CausalLm: Send {
    /// Hidden states of a flat batch, `[tokens, hidden]`. Keys and values go to `kv`, and those of earlier
    /// positions come from it.
    ///
    /// # Errors
    /// When a kernel refuses, for instance since a token id is outside of the vocabulary.
    fn forward(&self, batch: &Batch, kv: &mut KvStore) -> Result<Tensor, LayerError>;

    /// Logits of hidden states: `[rows, hidden]` to `[rows, vocab]`, f32. Of several ranks the first gets them; the others
    /// compute their share and get `None`.
    ///
    /// # Errors
    /// When the kernel refuses, or the other ranks are gone.
    fn logits(&self, hidden: &Tensor) -> Result<Option<Tensor>, LayerError>;

    /// Number of token ids.
    fn vocab_size(&self) -> usize;

    /// Heads of queries of this rank.
    fn num_heads(&self) -> usize;

    /// What a token takes in the cache of this rank.
    fn kv_shape(&self) -> KvShape;
}

// === impl Decoder ===

impl CausalLm for Decoder {
    fn forward(&self, batch: &Batch, kv: &mut KvStore) -> Result<Tensor, LayerError> {
        Self::forward(self, batch, kv)
    }

    fn logits(&self, hidden: &Tensor) -> Result<Option<Tensor>, LayerError> {
        Self::logits(self, hidden)
    }

    fn vocab_size(&self) -> usize {
        Self::vocab_size(self)
    }

    fn num_heads(&self) -> usize {
        Self::num_heads(self)
    }

    fn kv_shape(&self) -> KvShape {
        Self::kv_shape(self)
    }
}

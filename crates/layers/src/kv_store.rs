//! Keys and values of all layers, in blocks that the engine hands out.

use candle_core::DType;
use vlinders_kernels::KvLayer;

use crate::LayerError;

/// What a model stores for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers with a cache.
    pub layers: usize,
    /// Heads of keys, and as many of values.
    pub kv_heads: usize,
    /// Numbers of one head.
    pub head_dim: usize,
}

/// The cache of a model: `num_blocks` blocks of `block_size` tokens in each layer.
pub struct KvStore {
    layers: Vec<KvLayer>,
    block_size: usize,
    num_blocks: usize,
}

// === impl KvShape ===

impl KvShape {
    /// Bytes that one token takes in all layers.
    #[must_use]
    pub fn bytes_per_token(&self, dtype: DType) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * dtype.size_in_bytes()
    }
}

// === impl KvStore ===

impl KvStore {
    /// An empty cache whose numbers are stored as `dtype`.
    ///
    /// # Errors
    /// When the kernels refuse the shape or there is no memory.
    pub fn new(
        shape: KvShape,
        dtype: DType,
        num_blocks: usize,
        block_size: usize,
    ) -> Result<Self, LayerError> {
        let layer = || KvLayer::new(dtype, num_blocks, block_size, shape.kv_heads, shape.head_dim);
        let layers = (0..shape.layers).map(|_| layer()).collect::<Result<_, _>>()?;
        Ok(Self { layers, block_size, num_blocks })
    }

    /// The cache of one layer.
    ///
    /// # Errors
    /// When the model has more layers than its [`KvShape`] says.
    pub fn layer(&self, index: usize) -> Result<&KvLayer, LayerError> {
        self.layers.get(index).ok_or_else(|| {
            candle_core::Error::msg(format!("no cache for layer {index} of {}", self.layers.len())).into()
        })
    }

    /// Tokens of a block.
    #[must_use]
    pub fn block_size(&self) -> usize {
        self.block_size
    }

    /// Blocks in all.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.num_blocks
    }
}

//! Keys and values of all layers, in blocks that the engine hands out.

use vlinders_kernels::gpu::{AttentionShape, GpuKvLayer};
use vlinders_kernels::ops::Cache;
use vlinders_kernels::{KvDtype, KvLayer};

use crate::{LayerError, Place};

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
    layers: Vec<Cache>,
    block_size: usize,
    num_blocks: usize,
}

// === impl KvShape ===

impl KvShape {
    /// Bytes that a block of `block_size` tokens takes in all layers, scales and padding included.
    ///
    /// # Errors
    /// When the kernels refuse the shape.
    pub fn bytes_per_block(
        &self,
        dtype: KvDtype,
        block_size: usize,
        on_gpu: bool,
    ) -> Result<usize, LayerError> {
        let layer = if on_gpu {
            GpuKvLayer::bytes_per_block(dtype, block_size, self.kv_heads, self.head_dim)?
        } else {
            KvLayer::bytes_per_block(dtype, block_size, self.kv_heads, self.head_dim)?
        };
        Ok(self.layers.saturating_mul(layer))
    }
}

// === impl KvStore ===

impl KvStore {
    /// An empty cache whose numbers are stored as `dtype`, where the model computes.
    ///
    /// # Errors
    /// When the kernels refuse the shape or there is no memory.
    pub fn new(
        shape: KvShape,
        dtype: KvDtype,
        num_blocks: usize,
        block_size: usize,
        place: &Place,
    ) -> Result<Self, LayerError> {
        let KvShape { kv_heads, head_dim, .. } = shape;
        let layer = || -> Result<Cache, LayerError> {
            Ok(match place {
                Place::Cpu => Cache::Cpu(KvLayer::new(dtype, num_blocks, block_size, kv_heads, head_dim)?),
                Place::Gpu { gpu, .. } => {
                    Cache::Gpu(GpuKvLayer::new(gpu, dtype, num_blocks, block_size, kv_heads, head_dim)?)
                }
            })
        };
        let layers = (0..shape.layers).map(|_| layer()).collect::<Result<_, _>>()?;
        Ok(Self { layers, block_size, num_blocks })
    }

    /// What attention of `heads` heads of queries over this cache looks like, in a model whose tokens take `shape`.
    #[must_use]
    pub fn attention_shape(&self, heads: usize, shape: KvShape) -> AttentionShape {
        AttentionShape {
            heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            block_size: self.block_size,
            num_blocks: self.num_blocks,
        }
    }

    /// The cache of one layer.
    ///
    /// # Errors
    /// When the model has more layers than its [`KvShape`] says.
    pub fn layer(&self, index: usize) -> Result<&Cache, LayerError> {
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

    /// Bytes of all layers.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.layers.iter().map(Cache::num_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_takes_what_was_planned_for_its_blocks() {
        for dtype in [KvDtype::F32, KvDtype::F16, KvDtype::BF16, KvDtype::Int8] {
            for (head_dim, block_size) in [(64, 16), (24, 4), (80, 40)] {
                let shape = KvShape { layers: 3, kv_heads: 2, head_dim };
                let store = KvStore::new(shape, dtype, 5, block_size, &Place::Cpu).unwrap();
                let planned = 5 * shape.bytes_per_block(dtype, block_size, false).unwrap();
                assert_eq!(store.num_bytes(), planned, "{dtype} {shape:?} {block_size}");
            }
        }
    }
}

//! Which token belongs to which sequence, as kernels read it: a plan in device memory, made anew for each step.

use vlinders_device::{DeviceBuffer, Gpu, Grid, Staging};

use super::OP;
use super::plan::{Blocks, Planner};
use crate::attention::AttentionBatch;
use crate::error::{KernelError, Result};
use crate::gpu::kv::GpuKvLayer;
use crate::kv::KvShape;

/// The sizes that all layers of a model share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Heads of queries, a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Positions in a block of the cache.
    pub block_size: usize,
    /// Blocks of the cache.
    pub num_blocks: usize,
}

/// What the largest step needs. Memory for it is taken once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionLimits {
    /// Tokens of a step, padding included.
    pub tokens: usize,
    /// Blocks in the tables of all sequences together.
    pub table_entries: usize,
    /// Rows (a token, and one of the heads that share keys and values) times spans of 128 positions that may wait to be
    /// merged: room for long sequences to be worked on by many blocks. Each takes `kv_heads * (head_dim + 2)` f32 of
    /// intermediate memory. What finds no room is walked by one block, slower, with the same result.
    pub partial_rows: usize,
}

/// The flat form of one step's tokens on a device, used by all layers.
pub struct GpuAttentionBatch {
    shape: AttentionShape,
    limits: AttentionLimits,
    planner: Planner,
    plan: DeviceBuffer,
    staging: Staging,
    num_tokens: usize,
    is_decode: bool,
    uses_warpgroups: bool,
}

// === impl AttentionShape ===

impl AttentionShape {
    /// Heads that share one of keys and values.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    pub(super) fn is_of(&self, layer: &GpuKvLayer) -> bool {
        let Self { heads: _, kv_heads, head_dim, block_size, num_blocks } = *self;
        layer.shape() == KvShape { dtype: layer.dtype(), num_blocks, block_size, kv_heads, head_dim }
    }

    fn check(&self) -> Result<()> {
        let Self { heads, kv_heads, head_dim, block_size, num_blocks } = *self;
        if [heads, kv_heads, head_dim, block_size, num_blocks].contains(&0)
            || heads % kv_heads != 0
            || head_dim % 8 != 0
            || head_dim > 256
        {
            let problem = format!(
                "{self:?} can not be: heads are a multiple of those of keys and values, and have a multiple of 8 numbers, 256 at most"
            );
            return Err(KernelError::shape(OP, problem));
        }
        Ok(())
    }
}

// === impl GpuAttentionBatch ===

impl GpuAttentionBatch {
    /// Room for plans within `limits`; the plan in it is of no tokens.
    ///
    /// # Errors
    /// Sizes that no kernel has, or no memory.
    pub fn new(gpu: &Gpu, shape: AttentionShape, limits: AttentionLimits) -> Result<Self> {
        shape.check()?;
        let planner = Planner::new(gpu.properties(), shape, limits)?;
        let bytes = Planner::most_words(&limits) * size_of::<u32>();
        let mut batch = Self {
            shape,
            limits,
            planner,
            plan: gpu.allocate(bytes)?,
            staging: Staging::new(gpu, bytes)?,
            num_tokens: 0,
            is_decode: true,
            uses_warpgroups: true,
        };
        batch.update(&AttentionBatch { table_starts: vec![0], ..AttentionBatch::default() }, 0)?;
        Ok(batch)
    }

    /// Make the plan of a step, and ask for its copy to the device. Rows behind the batch's own, up to `num_tokens`, are
    /// padding. Steps that were asked for before still have their own plan; addresses never change, so a captured graph finds
    /// the new one, see [`is_decode`](Self::is_decode).
    ///
    /// # Errors
    /// Ids in `batch` that point outside of it or of the cache, more than the limits allow, or a failing device. The plan
    /// stays as it was then.
    pub fn update(&mut self, batch: &AttentionBatch, num_tokens: usize) -> Result<()> {
        let AttentionShape { num_blocks, block_size, .. } = self.shape;
        batch.check_ids(batch.positions.len(), num_blocks, block_size)?;
        let counts = [
            ("tokens", num_tokens.max(batch.positions.len()), self.limits.tokens),
            ("table entries", batch.block_tables.len(), self.limits.table_entries),
        ];
        if let Some((what, count, limit)) = counts.iter().find(|(_, count, limit)| count > limit) {
            return Err(KernelError::shape(OP, format!("a step of {count} {what}, its limit is {limit}")));
        }
        if num_tokens < batch.positions.len() {
            let problem = format!("{} tokens are not padded to {num_tokens}", batch.positions.len());
            return Err(KernelError::shape(OP, problem));
        }
        let (words, is_decode) = self.planner.plan(batch, num_tokens);
        self.staging.send(&self.plan, size_of_val(words), |bytes| {
            for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *to = word.to_le_bytes();
            }
        })?;
        self.num_tokens = num_tokens;
        self.is_decode = is_decode;
        Ok(())
    }

    /// Rows of the step, padding included.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        self.num_tokens
    }

    /// Whether each sequence has so few tokens that one warp takes them, as when decoding. A graph that was captured then is
    /// right for all plans of as many rows of which this is true.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        self.is_decode
    }

    /// Whether warpgroups take tokens that are many, where there are such kernels: it is so from the beginning. The result is the
    /// same; this is for comparisons.
    pub fn use_warpgroups(&mut self, yes: bool) {
        self.uses_warpgroups = yes;
    }

    /// The sizes it was made for.
    #[must_use]
    pub fn shape(&self) -> AttentionShape {
        self.shape
    }

    pub(super) fn address(&self) -> u64 {
        self.plan.address()
    }

    pub(super) fn partial_rows(&self) -> usize {
        self.limits.partial_rows
    }

    pub(super) fn small(&self) -> Blocks {
        self.planner.small
    }

    pub(super) fn large(&self) -> Blocks {
        self.planner.large
    }

    /// Blocks of warpgroups that take large tiles.
    pub(super) fn warpgroups(&self) -> Option<Grid> {
        self.planner.warpgroups.filter(|_| self.uses_warpgroups)
    }

    #[cfg(test)]
    #[cfg(feature = "emulation")]
    pub(super) fn set_splitting(&mut self, splitting: super::plan::Splitting) {
        self.planner.splitting = splitting;
    }
}

impl std::fmt::Debug for GpuAttentionBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuAttentionBatch")
            .field("shape", &self.shape)
            .field("limits", &self.limits)
            .field("num_tokens", &self.num_tokens)
            .finish_non_exhaustive()
    }
}

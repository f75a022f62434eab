//! The batch of a step in device memory, at addresses that depend on the number of its tokens alone.
//!
//! That is what lets a captured graph be launched for the next batch of the same size.

use candle_core::DType;
use vlinders_device::{DeviceBuffer, DeviceError, Gpu, GpuTensor, Staging};
use vlinders_kernels::gpu::{AttentionLimits, AttentionShape, GpuAttentionBatch};

use crate::{Batch, LayerError};

/// The slot of a token that belongs to nobody: nothing is written for it.
const NO_SLOT: u32 = u32::MAX;
/// Lists of one number for each token: ids, positions, slots, rows that want logits.
const NUM_LISTS: usize = 4;

/// The largest step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuBatchLimits {
    /// Tokens of a step.
    pub num_tokens: usize,
    /// Blocks in the tables of all sequences of a step.
    pub table_entries: usize,
}

/// Rows of queries times spans of positions that may wait to be merged. At 16,384 a model of eight heads of keys of 128 takes 68
/// MB: 256 sequences of 2,000 positions, or one of half a million.
const PARTIAL_ROWS: usize = 16_384;

/// What kernels read of a step.
pub struct GpuBatch {
    limits: GpuBatchLimits,
    staging: Staging,
    lists: DeviceBuffer,
    attention: GpuAttentionBatch,
    tokens: GpuTensor,
    positions: GpuTensor,
    slots: GpuTensor,
    logit_rows: GpuTensor,
}

// === impl GpuBatch ===

impl GpuBatch {
    /// Room for steps up to `limits`, of a model with attention of `shape`.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn new(gpu: &Gpu, shape: AttentionShape, limits: GpuBatchLimits) -> Result<Self, LayerError> {
        let bytes = NUM_LISTS * limits.num_tokens.max(1) * size_of::<u32>();
        let lists = gpu.allocate(bytes)?;
        let empty = GpuTensor::of_buffer(&lists, &[0], DType::U32)?;
        let attention = AttentionLimits {
            tokens: limits.num_tokens,
            table_entries: limits.table_entries,
            partial_rows: PARTIAL_ROWS,
        };
        Ok(Self {
            limits,
            staging: Staging::new(gpu, bytes)?,
            lists,
            attention: GpuAttentionBatch::new(gpu, shape, attention)?,
            tokens: empty.clone(),
            positions: empty.clone(),
            slots: empty.clone(),
            logit_rows: empty,
        })
    }

    /// Copy `batch`, filled up to `num_tokens` tokens that belong to nobody.
    pub(crate) fn update(&mut self, batch: &Batch, num_tokens: usize) -> Result<(), LayerError> {
        let used = batch.tokens().len();
        if num_tokens < used || num_tokens > self.limits.num_tokens {
            let problem = format!(
                "a step of {used} tokens, filled up to {num_tokens}, has no room in {}",
                self.limits.num_tokens
            );
            return Err(DeviceError::Tensor(problem).into());
        }
        // Rows that want logits are fewer than tokens: what follows them is never read.
        let lists =
            [(batch.tokens(), 0), (batch.positions(), 0), (batch.slots(), NO_SLOT), (batch.logit_rows(), 0)];
        self.staging.send(&self.lists, NUM_LISTS * num_tokens * size_of::<u32>(), |bytes| {
            for ((list, nobody), bytes) in lists.iter().zip(bytes.chunks_exact_mut(num_tokens.max(1) * 4)) {
                let numbers = list.iter().copied().chain(std::iter::repeat(*nobody));
                for (number, bytes) in numbers.zip(bytes.chunks_exact_mut(4)) {
                    bytes.copy_from_slice(&number.to_le_bytes());
                }
            }
        })?;
        let all = GpuTensor::of_buffer(&self.lists, &[NUM_LISTS, num_tokens], DType::U32)?;
        let list = |i| -> Result<GpuTensor, DeviceError> { all.rows(i, 1)?.reshape(&[num_tokens]) };
        self.tokens = list(0)?;
        self.positions = list(1)?;
        self.slots = list(2)?;
        self.logit_rows = list(3)?.rows(0, batch.logit_rows().len())?;
        self.attention.update(batch.attention(), num_tokens)?;
        Ok(())
    }

    /// Token ids, `[tokens]`.
    #[must_use]
    pub fn tokens(&self) -> &GpuTensor {
        &self.tokens
    }

    /// Position of each token, `[tokens]`.
    pub(crate) fn positions(&self) -> &GpuTensor {
        &self.positions
    }

    /// Where keys and values of each token go, `[tokens]`.
    pub(crate) fn slots(&self) -> &GpuTensor {
        &self.slots
    }

    /// Whether a graph that was captured for a step of one token for each sequence is right for this one.
    #[must_use]
    pub fn is_decode(&self) -> bool {
        self.attention.is_decode()
    }

    /// The tokens that want logits.
    #[must_use]
    pub fn logit_rows(&self) -> &GpuTensor {
        &self.logit_rows
    }

    pub(crate) fn attention(&self) -> &GpuAttentionBatch {
        &self.attention
    }
}

impl std::fmt::Debug for GpuBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuBatch").field("limits", &self.limits).finish_non_exhaustive()
    }
}

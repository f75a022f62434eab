//! The flat batch of one step: the tokens of all sequences, one behind the other.

mod gpu;

use vlinders_device::DeviceError;
use vlinders_kernels::AttentionBatch;
use vlinders_kernels::ops::{Ids, Sequences};

pub use self::gpu::{GpuBatch, GpuBatchLimits};
use crate::LayerError;

/// The tokens of one step, where they stand, where their keys and values go, and who wants logits.
#[derive(Debug, Default)]
pub struct Batch {
    tokens: Vec<u32>,
    slots: Vec<u32>,
    logit_rows: Vec<u32>,
    attention: AttentionBatch,
    on_gpu: Option<GpuBatch>,
}

/// Which tokens of a sequence need logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitRows {
    /// None: its prompt is not complete.
    None,
    /// The last, to sample what follows.
    Last,
    /// All, for log-probabilities of the prompt.
    All,
}

// === impl Batch ===

impl Batch {
    /// Forget all sequences, keep the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.slots.clear();
        self.logit_rows.clear();
        self.attention.positions.clear();
        self.attention.sequence_of.clear();
        self.attention.block_tables.clear();
        self.attention.table_starts.clear();
        self.attention.table_starts.push(0);
    }

    /// Append `tokens` of a sequence, of which the first stands at position `start`.
    /// `table` holds its blocks, at least up to its last token.
    pub fn push(&mut self, tokens: &[u32], start: u32, table: &[u32], block_size: usize, logits: LogitRows) {
        if self.attention.table_starts.is_empty() {
            self.attention.table_starts.push(0);
        }
        let sequence = self.attention.table_starts.len() as u32 - 1;
        let first_row = self.tokens.len() as u32;
        let end = start + tokens.len() as u32;
        self.tokens.extend_from_slice(tokens);
        for position in start..end {
            let block = table[position as usize / block_size];
            self.slots.push(block * block_size as u32 + position % block_size as u32);
            self.attention.positions.push(position);
            self.attention.sequence_of.push(sequence);
        }
        let used = (end as usize).div_ceil(block_size);
        self.attention.block_tables.extend_from_slice(&table[..used]);
        self.attention.table_starts.push(self.attention.block_tables.len() as u32);
        let end_row = self.tokens.len() as u32;
        match logits {
            LogitRows::None => {}
            LogitRows::Last => self.logit_rows.push(end_row - 1),
            LogitRows::All => self.logit_rows.extend(first_row..end_row),
        }
    }

    /// Token ids, `[tokens]`.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Position of each token in its sequence, `[tokens]`.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.attention.positions
    }

    /// Where keys and values of each token go: `block * block_size + offset`, `[tokens]`.
    #[must_use]
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// The tokens that want logits, in order.
    #[must_use]
    pub fn logit_rows(&self) -> &[u32] {
        &self.logit_rows
    }

    /// The batch as kernels on a device see it. Layers use that one from here on.
    pub fn set_gpu(&mut self, batch: GpuBatch) {
        self.on_gpu = Some(batch);
    }

    /// Take it back.
    pub fn take_gpu(&mut self) -> Option<GpuBatch> {
        self.on_gpu.take()
    }

    /// The batch on the device, if it has one.
    pub fn gpu(&self) -> Option<&GpuBatch> {
        self.on_gpu.as_ref()
    }

    /// Copy what was pushed to the device, where it is filled up to `num_tokens` tokens that belong to nobody.
    ///
    /// # Errors
    /// When the batch has no place on a device or that is too small, or the device fails.
    pub fn upload(&mut self, num_tokens: usize) -> Result<(), LayerError> {
        let Some(mut on_gpu) = self.on_gpu.take() else {
            return Err(LayerError::Device(DeviceError::Tensor("the batch has no device".to_owned())));
        };
        let outcome = on_gpu.update(self, num_tokens);
        self.on_gpu = Some(on_gpu);
        outcome
    }

    pub(crate) fn token_ids(&self) -> Ids<'_> {
        self.on_gpu.as_ref().map_or(Ids::Cpu(&self.tokens), |batch| Ids::Gpu(batch.tokens()))
    }

    pub(crate) fn position_ids(&self) -> Ids<'_> {
        self.on_gpu.as_ref().map_or(Ids::Cpu(self.positions()), |batch| Ids::Gpu(batch.positions()))
    }

    pub(crate) fn slot_ids(&self) -> Ids<'_> {
        self.on_gpu.as_ref().map_or(Ids::Cpu(&self.slots), |batch| Ids::Gpu(batch.slots()))
    }

    pub(crate) fn sequences(&self) -> Sequences<'_> {
        self.on_gpu
            .as_ref()
            .map_or(Sequences::Cpu(&self.attention), |batch| Sequences::Gpu(batch.attention()))
    }

    /// What the attention kernel needs.
    #[must_use]
    pub fn attention(&self) -> &AttentionBatch {
        &self.attention
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_land_in_the_blocks_of_their_sequence() {
        let mut batch = Batch::default();
        batch.push(&[7, 8, 9], 3, &[5, 2], 4, LogitRows::Last);
        batch.push(&[1], 0, &[9, 4], 4, LogitRows::None);
        batch.push(&[3, 3], 0, &[1], 4, LogitRows::All);
        assert_eq!(batch.tokens(), [7, 8, 9, 1, 3, 3]);
        assert_eq!(batch.positions(), [3, 4, 5, 0, 0, 1]);
        assert_eq!(batch.slots(), [23, 8, 9, 36, 4, 5]);
        assert_eq!(batch.logit_rows(), [2, 4, 5]);
        assert_eq!(batch.attention().sequence_of, [0, 0, 0, 1, 2, 2]);
        assert_eq!(batch.attention().block_tables, [5, 2, 9, 1]);
        assert_eq!(batch.attention().table_starts, [0, 2, 3, 4]);
        batch.clear();
        batch.push(&[6], 0, &[0], 4, LogitRows::Last);
        assert_eq!((batch.tokens(), batch.logit_rows()), (&[6][..], &[0][..]));
        assert_eq!(batch.attention().table_starts, [0, 1]);
    }
}

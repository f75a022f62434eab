//! Which token belongs to which sequence, and where that sequence's blocks are.

use super::OP;
use crate::error::{KernelError, Result};
use crate::kv::KvShape;

/// The flat form of one step's tokens, built once and used by all layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttentionBatch {
    /// `[n]`: position of each query token in its sequence.
    pub positions: Vec<u32>,
    /// `[n]`: the sequence of each query token, a row of the block tables.
    pub sequence_of: Vec<u32>,
    /// The block tables of all sequences, one after the other.
    pub block_tables: Vec<u32>,
    /// `[num_sequences + 1]`: where each sequence's table begins, and the end of the last.
    pub table_starts: Vec<u32>,
}

// === impl AttentionBatch ===

impl AttentionBatch {
    /// The blocks of a sequence that [`check`](Self::check) has seen.
    pub(crate) fn table(&self, sequence: usize) -> &[u32] {
        &self.block_tables[self.table_starts[sequence] as usize..self.table_starts[sequence + 1] as usize]
    }

    /// Every id points to something, for `n` tokens and a cache of `shape`.
    pub(crate) fn check(&self, n: usize, shape: KvShape) -> Result<()> {
        self.check_ids(n, shape.num_blocks, shape.block_size)
    }

    /// The same for a cache of `num_blocks` blocks of `block_size` positions.
    pub(crate) fn check_ids(&self, n: usize, num_blocks: usize, block_size: usize) -> Result<()> {
        if self.positions.len() != n || self.sequence_of.len() != n {
            return Err(KernelError::shape(
                OP,
                format!(
                    "{n} query tokens, but {} positions and {} sequence numbers",
                    self.positions.len(),
                    self.sequence_of.len()
                ),
            ));
        }
        let ordered = self.table_starts.windows(2).all(|pair| pair[0] <= pair[1]);
        let end = self.table_starts.last().map_or(0, |end| *end as usize);
        if !ordered || end > self.block_tables.len() {
            return Err(KernelError::shape(
                OP,
                format!(
                    "table starts {:?} do not divide {} table entries",
                    self.table_starts,
                    self.block_tables.len()
                ),
            ));
        }
        if let Some(block) = self.block_tables.iter().find(|block| **block as usize >= num_blocks) {
            return Err(out_of_range("block", *block as usize, num_blocks));
        }
        let num_sequences = self.table_starts.len().saturating_sub(1);
        for (position, sequence) in self.positions.iter().zip(&self.sequence_of) {
            let (position, sequence) = (*position as usize, *sequence as usize);
            if sequence >= num_sequences {
                return Err(out_of_range("sequence", sequence, num_sequences));
            }
            let limit = self.table(sequence).len() * block_size;
            if position >= limit {
                return Err(out_of_range("position", position, limit));
            }
        }
        Ok(())
    }
}

fn out_of_range(what: &'static str, index: usize, limit: usize) -> KernelError {
    KernelError::OutOfRange { op: OP, what, index, limit }
}

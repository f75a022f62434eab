//! Which bytes of each row a rank reads, when it has some of the columns.

use std::ops::Range;

use vlinders_kernels::Stored;

use crate::Span;

/// The columns of one rank, in rows of one encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// What is read of each row: whole blocks.
    pub(super) bytes: Range<usize>,
    /// What of the numbers in them is taken; `None` for all.
    take: Option<Range<usize>>,
}

// === impl Cut ===

impl Cut {
    pub(super) fn new(cols: Span, stored: Stored) -> Self {
        let (len, bytes) = (stored.block_len(), stored.block_bytes());
        let range = cols.range();
        let blocks = range.start / len..range.end.div_ceil(len);
        let take = range.start - blocks.start * len..range.end - blocks.start * len;
        Self {
            bytes: blocks.start * bytes..blocks.end * bytes,
            take: (!cols.is_whole_blocks(len)).then_some(take),
        }
    }

    /// Whether all numbers that are read are taken.
    pub(super) fn is_all(&self) -> bool {
        self.take.is_none()
    }

    /// The numbers that are taken of rows of blocks, as bytes of f32; `None` when that is all of them, and the blocks can stay as
    /// they are.
    pub(super) fn numbers(&self, stored: Stored, rows: &[u8]) -> Option<Vec<u8>> {
        let take = self.take.as_ref()?;
        let mut numbers = vec![0.0f32; self.bytes.len() / stored.block_bytes() * stored.block_len()];
        let mut taken = Vec::with_capacity(rows.len() / self.bytes.len().max(1) * take.len() * 4);
        for row in rows.chunks_exact(self.bytes.len()) {
            stored.decode(row, &mut numbers);
            taken.extend(numbers[take.clone()].iter().flat_map(|number| number.to_le_bytes()));
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests;

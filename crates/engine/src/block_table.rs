//! The blocks of one sequence, in the order of its tokens: shared full ones, then those it is filling.

use crate::block::{MutableBlock, SharedBlock};
use crate::plan::BlockId;
use crate::prefix::BlockHash;

/// The blocks of one sequence. Dropping it gives them back, last block first, so that the beginning of a prefix,
/// which more requests have in common, is evicted last.
#[derive(Debug, Default)]
pub struct BlockTable {
    full: Vec<SharedBlock>,
    filling: Vec<MutableBlock>,
}

impl BlockTable {
    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full.len() + self.filling.len()
    }

    /// Without any block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of blocks that are full.
    #[must_use]
    pub fn num_full(&self) -> usize {
        self.full.len()
    }

    /// Append a full block, found by its content.
    ///
    /// # Panics
    /// When a block before it still fills.
    pub fn adopt(&mut self, block: SharedBlock) {
        assert!(self.filling.is_empty(), "a full block follows full blocks only");
        self.full.push(block);
    }

    /// Append a block to fill.
    pub fn push(&mut self, block: MutableBlock) {
        self.filling.push(block);
    }

    /// The first blocks being filled are full now: one for each hash.
    pub fn seal(&mut self, hashes: impl ExactSizeIterator<Item = Option<BlockHash>>) {
        let full = self.filling.drain(..hashes.len());
        self.full.extend(full.zip(hashes).map(|(block, hash)| block.seal(hash)));
    }

    /// The ids of all blocks from index `from` on.
    pub fn ids(&self, from: usize) -> impl Iterator<Item = BlockId> + '_ {
        let full = &self.full[from.min(self.full.len())..];
        let filling = &self.filling[from.saturating_sub(self.full.len()).min(self.filling.len())..];
        full.iter().map(SharedBlock::id).chain(filling.iter().map(MutableBlock::id))
    }

    /// Give all blocks back, the last one first.
    pub fn clear(&mut self) {
        while self.filling.pop().is_some() {}
        while self.full.pop().is_some() {}
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        self.clear();
    }
}

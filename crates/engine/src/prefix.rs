//! When two blocks hold the same: the hash chain over tokens, and the map from hash to block.
//!
//! The hash of a block covers its tokens and, through the hash of the block before it, all tokens before them, so
//! equal hashes mean equal prefixes. Tokens are not compared again on a hit: 128 bits make an accident impossible
//! in practice, and a seed drawn at start keeps anyone from preparing two prompts that collide.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::plan::BlockId;

/// Names the content of a full block: its tokens and all before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash(u128);

/// Computes the hashes of a chain of blocks.
#[derive(Debug)]
pub struct BlockHasher {
    seed: u64,
    bytes: Vec<u8>,
}

/// Where the content of a hash is.
#[derive(Debug)]
pub(crate) struct PrefixIndex {
    blocks: HashMap<BlockHash, BlockId, BuildHasherDefault<LowBits>>,
}

/// The key is a hash already: use its low bits.
#[derive(Debug, Default)]
pub(crate) struct LowBits(u64);

// === impl BlockHasher ===

impl BlockHasher {
    /// A hasher with a seed of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::with_seed(RandomState::new().hash_one(0_u64))
    }

    /// A hasher with a known seed.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self { seed, bytes: Vec::new() }
    }

    /// The hash of a block that follows `parent` (none: the first block) and holds `head` then `tail`.
    #[must_use]
    pub fn hash(&mut self, parent: Option<BlockHash>, head: &[u32], tail: &[u32]) -> BlockHash {
        self.bytes.clear();
        if let Some(BlockHash(parent)) = parent {
            self.bytes.extend_from_slice(&parent.to_le_bytes());
        }
        for token in head.iter().chain(tail) {
            self.bytes.extend_from_slice(&token.to_le_bytes());
        }
        BlockHash(xxh3_128_with_seed(&self.bytes, self.seed))
    }
}

impl Default for BlockHasher {
    fn default() -> Self {
        Self::new()
    }
}

// === impl PrefixIndex ===

impl PrefixIndex {
    /// An index with room for this many blocks.
    pub(crate) fn new(num_blocks: usize) -> Self {
        Self { blocks: HashMap::with_capacity_and_hasher(num_blocks, BuildHasherDefault::default()) }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    pub(crate) fn get(&self, hash: BlockHash) -> Option<BlockId> {
        self.blocks.get(&hash).copied()
    }

    /// Enter a block, unless another has the same content already. Says whether it was entered.
    pub(crate) fn insert(&mut self, hash: BlockHash, block: BlockId) -> bool {
        let entry = self.blocks.entry(hash);
        let vacant = matches!(entry, std::collections::hash_map::Entry::Vacant(_));
        entry.or_insert(block);
        vacant
    }

    pub(crate) fn remove(&mut self, hash: BlockHash) {
        self.blocks.remove(&hash);
    }
}

impl Hasher for LowBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits of a hash are a hash")]
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_covers_all_tokens_before_it() {
        let mut hasher = BlockHasher::with_seed(7);
        let first = hasher.hash(None, &[1, 2], &[3, 4]);
        assert_eq!(first, hasher.hash(None, &[1, 2, 3, 4], &[]), "how the tokens are kept does not matter");
        assert_ne!(first, hasher.hash(None, &[1, 2, 4, 3], &[]), "their order does");
        let other = hasher.hash(None, &[9, 2, 3, 4], &[]);
        let second = hasher.hash(Some(first), &[5, 6, 7, 8], &[]);
        assert_ne!(second, hasher.hash(Some(other), &[5, 6, 7, 8], &[]), "the tokens before matter");
        assert_ne!(second, hasher.hash(None, &[5, 6, 7, 8], &[]));
        assert_ne!(first, BlockHasher::with_seed(8).hash(None, &[1, 2, 3, 4], &[]), "the seed matters");
    }

    #[test]
    fn the_first_of_two_equal_blocks_stays() {
        let hash = BlockHasher::with_seed(7).hash(None, &[1], &[]);
        let mut index = PrefixIndex::new(4);
        assert!(index.insert(hash, 1));
        assert!(!index.insert(hash, 2));
        assert_eq!(index.get(hash), Some(1));
        index.remove(hash);
        assert_eq!(index.get(hash), None);
        assert_eq!(index.len(), 0);
    }
}

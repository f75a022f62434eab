//! All KV blocks of an engine: which are free, which content idle ones still hold, which is reused first.
//!
//! A block is *held* (by one or more owners), *idle* (free, but its content can be found) or *blank* (free).
//! New blocks are blank ones, then the idle one that is unused for the longest time. A held block is never taken.
//! One thread owns a pool and all its blocks.

use std::cell::RefCell;
use std::rc::Rc;

use crate::block::{MutableBlock, SharedBlock};
use crate::lru::Lru;
use crate::plan::BlockId;
use crate::prefix::{BlockHash, PrefixIndex};

/// The pool of all blocks; clones are the same pool.
#[derive(Debug, Clone)]
pub struct BlockPool(Rc<RefCell<Pool>>);

/// One share in a block, given back on drop.
#[derive(Debug)]
pub(crate) struct Held {
    pool: BlockPool,
    id: BlockId,
}

#[derive(Debug)]
struct Pool {
    blocks: Vec<Block>,
    blank: Vec<BlockId>,
    idle: Lru,
    index: PrefixIndex,
    num_held: usize,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    owners: u32,
    /// Set while the index knows this block.
    hash: Option<BlockHash>,
}

// === impl BlockPool ===

impl BlockPool {
    /// A pool of blank blocks `0..num_blocks`.
    ///
    /// # Panics
    /// When there are more than 32 bits can count.
    #[must_use]
    pub fn new(num_blocks: usize) -> Self {
        let last =
            BlockId::try_from(num_blocks).expect("the configuration was checked: 32 bits count all blocks");
        Self(Rc::new(RefCell::new(Pool {
            blocks: vec![Block { owners: 0, hash: None }; num_blocks],
            blank: (0..last).rev().collect(),
            idle: Lru::new(num_blocks),
            index: PrefixIndex::new(num_blocks),
            num_held: 0,
        })))
    }

    /// A block to fill; none if all are held.
    #[must_use]
    pub fn allocate(&self) -> Option<MutableBlock> {
        let id = self.0.borrow_mut().take_free()?;
        Some(MutableBlock::new(Held { pool: self.clone(), id }))
    }

    /// The block with this content.
    #[must_use]
    pub fn find(&self, hash: BlockHash) -> Option<SharedBlock> {
        let id = self.0.borrow_mut().find(hash)?;
        Some(SharedBlock::new(Held { pool: self.clone(), id }))
    }

    /// Number of blocks that [`BlockPool::allocate`] can give.
    #[must_use]
    pub fn num_free(&self) -> usize {
        let pool = self.0.borrow();
        pool.blank.len() + pool.idle.len()
    }

    /// Number of blocks somebody holds.
    #[must_use]
    pub fn num_held(&self) -> usize {
        self.0.borrow().num_held
    }

    /// Number of free blocks whose content can be found.
    #[must_use]
    pub fn num_idle(&self) -> usize {
        self.0.borrow().idle.len()
    }

    /// Number of all blocks.
    #[must_use]
    pub fn num_blocks(&self) -> usize {
        self.0.borrow().blocks.len()
    }

    /// Count everything again and compare, for tests.
    #[cfg(test)]
    pub(crate) fn assert_consistent(&self) {
        let pool = self.0.borrow();
        let held = pool.blocks.iter().filter(|block| block.owners > 0).count();
        let idle = pool.blocks.iter().filter(|block| block.owners == 0 && block.hash.is_some()).count();
        let known = pool.blocks.iter().filter(|block| block.hash.is_some()).count();
        assert_eq!(pool.num_held, held, "held");
        assert_eq!(pool.idle.len(), idle, "idle");
        assert_eq!(pool.blank.len() + pool.idle.len() + held, pool.blocks.len(), "free + held = total");
        assert_eq!(pool.index.len(), known, "the index knows the blocks that say so");
        for (id, block) in pool.blocks.iter().enumerate() {
            if let Some(hash) = block.hash {
                assert_eq!(pool.index.get(hash), Some(BlockId::try_from(id).unwrap()));
            }
        }
    }
}

// === impl Pool ===

impl Pool {
    fn take_free(&mut self) -> Option<BlockId> {
        let id = match self.blank.pop() {
            Some(id) => id,
            None => self.evict()?,
        };
        self.blocks[id as usize].owners = 1;
        self.num_held += 1;
        Some(id)
    }

    fn evict(&mut self) -> Option<BlockId> {
        let id = self.idle.pop_oldest()?;
        if let Some(hash) = self.blocks[id as usize].hash.take() {
            self.index.remove(hash);
        }
        Some(id)
    }

    fn find(&mut self, hash: BlockHash) -> Option<BlockId> {
        let id = self.index.get(hash)?;
        let block = &mut self.blocks[id as usize];
        if block.owners == 0 {
            self.idle.remove(id);
            self.num_held += 1;
        }
        block.owners += 1;
        Some(id)
    }

    fn enter(&mut self, id: BlockId, hash: BlockHash) {
        if self.index.insert(hash, id) {
            self.blocks[id as usize].hash = Some(hash);
        }
    }

    fn give_back(&mut self, id: BlockId) {
        let block = &mut self.blocks[id as usize];
        block.owners -= 1;
        if block.owners > 0 {
            return;
        }
        self.num_held -= 1;
        if block.hash.is_some() {
            self.idle.push(id);
        } else {
            self.blank.push(id);
        }
    }
}

// === impl Held ===

impl Held {
    pub(crate) fn id(&self) -> BlockId {
        self.id
    }

    pub(crate) fn pool(&self) -> BlockPool {
        self.pool.clone()
    }

    /// One more share in the block.
    pub(crate) fn again(&self) -> Self {
        self.pool.0.borrow_mut().blocks[self.id as usize].owners += 1;
        Self { pool: self.pool.clone(), id: self.id }
    }

    /// Let the block be found by its content.
    pub(crate) fn enter(&self, hash: BlockHash) {
        self.pool.0.borrow_mut().enter(self.id, hash);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.0.borrow_mut().give_back(self.id);
    }
}

#[cfg(test)]
mod tests;

//! Who owns a KV block: one sequence while it fills, any number of them once it is full. Dropping gives it back.

use crate::block_pool::{BlockPool, Held};
use crate::plan::BlockId;
use crate::prefix::BlockHash;

/// A block that one sequence fills.
#[derive(Debug)]
pub struct MutableBlock(Held);

/// A full block; it is never written again, so clones may be in many block tables.
#[derive(Debug)]
pub struct SharedBlock(Held);

impl MutableBlock {
    pub(crate) fn new(held: Held) -> Self {
        Self(held)
    }

    /// Its index.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.0.id()
    }

    /// The block is full: it is written no more. With a hash it can be found again until its memory is needed,
    /// unless another block of the same content can be found already.
    #[must_use]
    pub fn seal(self, hash: Option<BlockHash>) -> SharedBlock {
        if let Some(hash) = hash {
            self.0.enter(hash);
        }
        SharedBlock(self.0)
    }
}

impl SharedBlock {
    pub(crate) fn new(held: Held) -> Self {
        Self(held)
    }

    /// Its index.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.0.id()
    }

    /// The pool it goes back to.
    #[must_use]
    pub fn pool(&self) -> BlockPool {
        self.0.pool()
    }
}

impl Clone for SharedBlock {
    fn clone(&self) -> Self {
        Self(self.0.again())
    }
}

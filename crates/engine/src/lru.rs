//! The order in which idle blocks are reused: a linked list inside two flat arrays, every operation O(1).

use crate::plan::BlockId;

/// Stands for no block.
const NONE: BlockId = BlockId::MAX;

#[derive(Debug, Clone, Copy)]
struct Links {
    older: BlockId,
    newer: BlockId,
}

/// Blocks by the time they became idle.
#[derive(Debug)]
pub(crate) struct Lru {
    links: Vec<Links>,
    oldest: BlockId,
    newest: BlockId,
    len: usize,
}

impl Lru {
    /// An empty list for blocks `0..num_blocks`.
    pub(crate) fn new(num_blocks: usize) -> Self {
        let links = vec![Links { older: NONE, newer: NONE }; num_blocks];
        Self { links, oldest: NONE, newest: NONE, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Add a block that is not in the list, as the newest.
    pub(crate) fn push(&mut self, block: BlockId) {
        self.links[block as usize] = Links { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = block,
            newest => self.links[newest as usize].newer = block,
        }
        self.newest = block;
        self.len += 1;
    }

    /// Take out a block that is in the list.
    pub(crate) fn remove(&mut self, block: BlockId) {
        let Links { older, newer } = self.links[block as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
        self.len -= 1;
    }

    /// Take out the oldest block.
    pub(crate) fn pop_oldest(&mut self) -> Option<BlockId> {
        let oldest = self.oldest;
        (oldest != NONE).then(|| {
            self.remove(oldest);
            oldest
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_in_the_order_of_arrival() {
        let check = |pushed: &[BlockId], removed: &[BlockId], expect: &[BlockId]| {
            let mut lru = Lru::new(8);
            pushed.iter().for_each(|block| lru.push(*block));
            removed.iter().for_each(|block| lru.remove(*block));
            assert_eq!(lru.len(), expect.len());
            let popped: Vec<BlockId> = std::iter::from_fn(|| lru.pop_oldest()).collect();
            assert_eq!(popped, expect);
            assert_eq!(lru.len(), 0);
            lru.push(7);
            assert_eq!(lru.pop_oldest(), Some(7), "usable after it was empty");
        };
        check(&[], &[], &[]);
        check(&[3], &[], &[3]);
        check(&[3], &[3], &[]);
        check(&[3, 0, 5], &[], &[3, 0, 5]);
        check(&[3, 0, 5], &[3], &[0, 5]);
        check(&[3, 0, 5], &[0], &[3, 5]);
        check(&[3, 0, 5], &[5], &[3, 0]);
        check(&[3, 0, 5, 1], &[0, 5], &[3, 1]);
    }
}

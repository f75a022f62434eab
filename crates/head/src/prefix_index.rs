//! Which replica was sent which beginning of a prompt, as far as its cache may still hold it.
//!
//! An inverted index: block hash → replicas. Each replica forgets what it has used least recently, like the cache it
//! mirrors. A lookup does not walk the whole chain for every replica: caches hold whole beginnings, so the deepest
//! known block is found by bisection, and the holders of a few shallower ones tell the others apart.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::prefix_chain::PrefixChain;

/// A place in the index; replicas that leave give theirs to later ones.
pub(crate) type Place = u16;

/// Beginnings of prompts and who was sent them.
#[derive(Debug, Default)]
pub(crate) struct PrefixIndex {
    blocks: HashMap<u64, Vec<Holder>, BuildHasherDefault<PassOn>>,
    replicas: Vec<Known>,
}

/// A replica that was sent a block, and when.
#[derive(Debug, Clone, Copy)]
struct Holder {
    place: Place,
    /// The clock of the replica at that time.
    used: u32,
}

/// What is known of one replica.
#[derive(Debug, Default)]
struct Known {
    /// Counts its requests.
    clock: u32,
    /// Blocks it holds.
    held: usize,
    /// Blocks in the order of their use; those used again later are behind too, with a later time.
    order: VecDeque<(u64, u32)>,
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct PassOn(u64);

// === impl PrefixIndex ===

impl PrefixIndex {
    /// For each place, how many blocks of the beginning of `chain` it was sent: `matched[place]`, which is as long as
    /// there are places. A lower bound for all but those that know the most.
    pub(crate) fn matches(&self, chain: &PrefixChain, matched: &mut Vec<u32>) {
        matched.clear();
        matched.resize(self.replicas.len(), 0);
        let hashes = chain.hashes();
        let known = |depth: usize| self.blocks.get(&hashes[depth - 1]);
        // Blocks from 1 on; somebody knows all up to `deepest`, nobody the one behind.
        let (mut deepest, mut unknown) = (0, hashes.len() + 1);
        while unknown - deepest > 1 {
            let middle = deepest.midpoint(unknown);
            if known(middle).is_some() { deepest = middle } else { unknown = middle }
        }
        let mut depth = deepest;
        while depth > 0 {
            for holder in known(depth).into_iter().flatten() {
                let blocks = &mut matched[usize::from(holder.place)];
                *blocks = (*blocks).max(depth as u32);
            }
            depth = if depth == deepest && depth > 3 { depth * 3 / 4 } else { depth / 2 };
        }
    }

    /// `place` was sent `chain` and keeps the `capacity` blocks it used last.
    pub(crate) fn record(&mut self, place: Place, chain: &PrefixChain, capacity: usize) {
        let needed = usize::from(place) + 1;
        if self.replicas.len() < needed {
            self.replicas.resize_with(needed, Known::default);
        }
        let known = &mut self.replicas[usize::from(place)];
        known.clock = known.clock.wrapping_add(1);
        let used = known.clock;
        // The deepest first, so that the beginning is the last to be forgotten.
        for hash in chain.hashes().iter().take(capacity).rev() {
            let holders = self.blocks.entry(*hash).or_default();
            match holders.iter_mut().find(|holder| holder.place == place) {
                Some(holder) => holder.used = used,
                None => {
                    holders.push(Holder { place, used });
                    known.held += 1;
                }
            }
            known.order.push_back((*hash, used));
        }
        while known.held > capacity {
            let Some((hash, used)) = known.order.pop_front() else { break };
            known.held -= usize::from(forget(&mut self.blocks, hash, place, |holder| holder.used == used));
        }
        if known.order.len() > 64 + 4 * known.held {
            let blocks = &self.blocks;
            known.order.retain(|(hash, used)| {
                let holders = blocks.get(hash).into_iter().flatten();
                holders.into_iter().any(|holder| holder.place == place && holder.used == *used)
            });
        }
    }

    /// `place` holds nothing any more: its process is another one, or gone.
    pub(crate) fn clear(&mut self, place: Place) {
        let Some(known) = self.replicas.get_mut(usize::from(place)) else { return };
        for (hash, _) in std::mem::take(known).order {
            forget(&mut self.blocks, hash, place, |_| true);
        }
    }

    /// Blocks that somebody holds.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }
}

/// Take `place` from the holders of a block if `applies`; whether it was there.
fn forget(
    blocks: &mut HashMap<u64, Vec<Holder>, BuildHasherDefault<PassOn>>,
    hash: u64,
    place: Place,
    applies: impl Fn(&Holder) -> bool,
) -> bool {
    let Entry::Occupied(mut entry) = blocks.entry(hash) else { return false };
    let holders = entry.get_mut();
    let Some(position) = holders.iter().position(|holder| holder.place == place && applies(holder)) else {
        return false;
    };
    holders.swap_remove(position);
    if holders.is_empty() {
        entry.remove();
    }
    true
}

// === impl PassOn ===

impl Hasher for PassOn {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are whole numbers of 64 bits")
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests;

//! The buckets of one process: bounded in number, forgotten when idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::bucket::{Buckets, Cost, Decision};
use crate::limits::Limits;

/// Buckets by consumer, in two generations. Who asks moves into the young one; when that is full, or an hour old, the old
/// one is forgotten and the young one becomes it. After an hour nothing is owed, so time forgets nothing; a full
/// generation means more consumers at once than are counted, and forgets those that asked least lately.
pub(crate) struct Memory {
    generations: Mutex<Generations>,
    started: Instant,
}

struct Generations {
    young: HashMap<Arc<str>, Buckets>,
    old: HashMap<Arc<str>, Buckets>,
    turned: u64,
    /// Consumers of a generation.
    capacity: usize,
}

/// Consumers of both generations, some 100 bytes each.
const MAX_CONSUMERS: usize = 200_000;
const HOUR: u64 = 3_600_000;

// === impl Memory ===

impl Memory {
    pub(crate) fn new() -> Self {
        Self::with_capacity(MAX_CONSUMERS)
    }

    fn with_capacity(consumers: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        let generations = Generations { young, old, turned: 0, capacity: consumers / 2 };
        Self { generations: Mutex::new(generations), started: Instant::now() }
    }

    /// Milliseconds since this memory began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn admit(&self, id: &Arc<str>, now: u64, limits: Limits, cost: Cost) -> Decision {
        self.lock().buckets(id, now).admit(now, limits, cost)
    }

    pub(crate) fn settle(&self, id: &Arc<str>, now: u64, limits: Limits, more: i64) {
        self.lock().buckets(id, now).settle(now, limits, more);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Generations ===

impl Generations {
    fn buckets(&mut self, id: &Arc<str>, now: u64) -> &mut Buckets {
        let full = self.young.len() >= self.capacity && !self.young.contains_key(id);
        if full || now.saturating_sub(self.turned) > HOUR {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        let old = &mut self.old;
        self.young.entry(Arc::clone(id)).or_insert_with(|| old.remove(id).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Cost = Cost { requests: 1, tokens: 0 };

    fn admitted(memory: &Memory, id: &str, now: u64) -> bool {
        let limits = Limits { requests_per_minute: 1, tokens_per_minute: 0 };
        memory.admit(&id.into(), now, limits, ONE).admitted
    }

    #[test]
    fn the_number_of_consumers_is_bounded() {
        let memory = Memory::with_capacity(100);
        for number in 0..10_000 {
            assert!(admitted(&memory, &format!("consumer-{number}"), 0));
        }
        let generations = memory.lock();
        assert!(generations.young.len() + generations.old.len() <= 100);
    }

    #[test]
    fn who_asks_is_not_forgotten_among_strangers() {
        let memory = Memory::with_capacity(100);
        assert!(admitted(&memory, "busy", 0));
        for number in 0..10_000 {
            admitted(&memory, &format!("consumer-{number}"), 0);
            assert!(!admitted(&memory, "busy", 0), "{number}");
        }
    }

    #[test]
    fn the_idle_are_forgotten_after_an_hour_or_two() {
        let memory = Memory::with_capacity(100);
        assert!(admitted(&memory, "idle", 0));
        for hours in 1..=3 {
            admitted(&memory, "busy", hours * (HOUR + 1));
        }
        let generations = memory.lock();
        assert_eq!(generations.young.len() + generations.old.len(), 1);
    }
}

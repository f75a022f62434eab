//! Which replica serves a request best: what it would have to compute, against what it has to do already.
//!
//! A cost is counted in blocks of prompt. A conversation stays where its cache is while what other replicas would
//! recompute outweighs what its own has in hand; replicas that are overloaded are not asked while others are not.

use crate::prefix_chain::BLOCK_BYTES;

/// What a running answer costs those that come on top: a step of its replica is shared with each of them.
const ANSWER_BLOCKS: u64 = 4;

/// Longer queues than this are overload.
const MAX_WAITING: u32 = 4;

/// A fuller KV cache than this is overload: answers would be preempted. In thousandths.
const MAX_KV_USAGE: u32 = 950;

/// What is known of a replica that could be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Blocks of this prompt that its cache is likely to hold.
    pub(crate) matched: u32,
    /// Answers it works on: as it last said, and what was sent since.
    pub(crate) answers: u32,
    /// Those of them that wait, as it last said.
    pub(crate) waiting: u32,
    /// Bytes of prompts that were sent and have got no first byte yet.
    pub(crate) pending_bytes: u64,
    /// In thousandths.
    pub(crate) kv_usage: u32,
}

/// The cheapest of `candidates` for a prompt of `blocks` blocks, as an index; `None` if there are none. Of equals the
/// first from `start` on, which should differ between requests.
pub(crate) fn choose(
    candidates: impl ExactSizeIterator<Item = Candidate>,
    blocks: u32,
    start: usize,
) -> Option<usize> {
    let count = candidates.len();
    let key = |index: usize, candidate: Candidate| {
        let place = (index + count - start % count) % count;
        (candidate.is_overloaded(), candidate.cost(blocks), place)
    };
    candidates.enumerate().min_by_key(|(index, candidate)| key(*index, *candidate)).map(|(index, _)| index)
}

// === impl Candidate ===

impl Candidate {
    fn is_overloaded(&self) -> bool {
        self.waiting > MAX_WAITING || self.kv_usage > MAX_KV_USAGE
    }

    fn cost(&self, blocks: u32) -> u64 {
        let own = u64::from(blocks.saturating_sub(self.matched));
        let pending = self.pending_bytes / BLOCK_BYTES as u64;
        own + pending + ANSWER_BLOCKS * u64::from(self.answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(candidates: &[Candidate], blocks: u32) -> Option<usize> {
        choose(candidates.iter().copied(), blocks, 0)
    }

    const IDLE: Candidate = Candidate { matched: 0, answers: 0, waiting: 0, pending_bytes: 0, kv_usage: 0 };

    #[test]
    fn a_conversation_stays_where_its_cache_is() {
        let knows = Candidate { matched: 40, answers: 3, ..IDLE };
        assert_eq!(pick(&[IDLE, knows], 41), Some(1));
        assert_eq!(pick(&[IDLE, Candidate { answers: 11, ..knows }], 41), Some(0), "others are free");
        assert_eq!(
            pick(&[Candidate { answers: 11, ..IDLE }, Candidate { answers: 11, ..knows }], 41),
            Some(1)
        );
    }

    #[test]
    fn an_overloaded_one_is_asked_only_when_all_are() {
        let full = Candidate { matched: 400, kv_usage: 990, ..IDLE };
        let queue = Candidate { matched: 400, waiting: 5, ..IDLE };
        let busy = Candidate { answers: 60, ..IDLE };
        assert_eq!(pick(&[full, queue, busy], 400), Some(2));
        assert_eq!(pick(&[full, Candidate { answers: 9, ..queue }], 400), Some(0));
    }

    #[test]
    fn prompts_under_way_count() {
        let pending = Candidate { pending_bytes: 100_000, ..IDLE };
        let running = Candidate { answers: 20, ..IDLE };
        assert_eq!(pick(&[pending, running], 1), Some(1));
    }

    #[test]
    fn equals_take_turns() {
        let equals = [IDLE; 3];
        let picked: Vec<_> = (0..6).map(|start| choose(equals.into_iter(), 1, start)).collect();
        assert_eq!(picked, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(2)]);
        assert_eq!(pick(&[], 1), None);
    }
}

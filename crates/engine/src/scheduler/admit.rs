//! Which waiting sequences start, and what the prefix cache spares them.

use crate::event::TokenEvent;
use crate::plan::{SeqId, StartedSequence, StepPlan};
use crate::sequence::Phase;

use super::{Events, Scheduler};

/// The share of the pool, one in so many, kept free for running sequences when another starts.
const HEADROOM_SHARE: usize = 32;

impl Scheduler {
    /// Start waiting sequences by rank, until `budget` tokens are given out or one does not fit: none overtakes it.
    pub(super) fn plan_waiting(&mut self, plan: &mut StepPlan, mut budget: usize, events: &mut Events) {
        while self.num_running < self.config.max_num_seqs && budget > 0 {
            let Some(&(_, seq)) = self.waiting.first() else { return };
            if self.is_blocked(seq) {
                return;
            }
            if !self.reserve(seq) {
                self.blocked = Some((seq, self.pool.num_free()));
                return;
            }
            self.blocked = None;
            budget -= self.start(seq, plan, budget, events);
        }
    }

    /// Whether the head of the queue did not fit before, and no block has become free since. That it did not fit
    /// means that some sequence runs; when it ends, its blocks become free.
    fn is_blocked(&mut self, head: SeqId) -> bool {
        let free = self.pool.num_free();
        match &mut self.blocked {
            Some((seq, free_then)) if *seq == head && free <= *free_then => {
                *free_then = free;
                true
            }
            _ => false,
        }
    }

    /// Take the cached blocks of a waiting sequence, if what it needs besides them is free too.
    fn reserve(&mut self, seq: SeqId) -> bool {
        let Self { config, pool, hasher, sequences, .. } = self;
        let Some(sequence) = sequences.get_mut(seq.0 as usize).and_then(Option::as_mut) else { return false };
        let (len, block_size) = (sequence.len(), config.block_size);
        if config.prefix_caching && sequence.may_use_cache() {
            // At least one token is computed: the next one is sampled from what it gives.
            for idx in 0..(len - 1) / block_size {
                let Some(block) = pool.find(sequence.hash(idx, block_size, hasher)) else { break };
                sequence.table.adopt(block);
            }
        }
        let needed = len.div_ceil(block_size) - sequence.table.len();
        let headroom = self.num_running.min(config.num_blocks / HEADROOM_SHARE);
        let fits = self.num_running == 0 || pool.num_free() >= needed + headroom;
        if !fits {
            sequence.table.clear();
        }
        fits
    }

    /// Move a sequence from the waiting queue to the running ones and plan its first chunk; gives its length.
    fn start(&mut self, seq: SeqId, plan: &mut StepPlan, budget: usize, events: &mut Events) -> usize {
        let block_size = self.config.block_size;
        let Some(sequence) = self.sequences.get_mut(seq.0 as usize).and_then(Option::as_mut) else {
            return 0;
        };
        let cached_tokens = sequence.table.len() * block_size;
        sequence.computed = cached_tokens;
        let (len, rank) = (sequence.len(), sequence.rank);
        let prefilling = sequence.remaining() > 1;
        sequence.phase = Phase::Running { prefilling };
        if !sequence.started {
            sequence.started = true;
            plan.started.push(StartedSequence {
                seq,
                prompt: sequence.prompt().clone(),
                sampling: sequence.sampling().clone(),
            });
            events.push((seq, TokenEvent::Scheduled { cached_tokens }));
            if self.config.prefix_caching && sequence.may_use_cache() {
                self.counts.prefix_query_tokens += len as u64;
                self.counts.prefix_hit_tokens += cached_tokens as u64;
            }
        }
        self.waiting.remove(&(rank, seq));
        let place = self.running.partition_point(|other| {
            self.sequences[other.0 as usize].as_ref().is_some_and(|other| other.rank < rank)
        });
        self.running.insert(place, seq);
        self.num_running += 1;
        self.num_prefilling += usize::from(prefilling);
        self.step.admitted += 1;

        let chunk = (len - cached_tokens).min(budget);
        self.push_work(seq, chunk, true, plan);
        chunk
    }
}

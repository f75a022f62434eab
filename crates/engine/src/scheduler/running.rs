//! Running sequences: one token for each that decodes, a chunk for each that prefills, and who must yield.

use crate::plan::{SeqId, SequenceWork, StepPlan};
use crate::sequence::Phase;

use super::Scheduler;

impl Scheduler {
    /// Serve running sequences by rank, and drop those that are gone from the list. Those that prefill share
    /// `budget` tokens; gives what is left of it.
    pub(super) fn plan_running(&mut self, plan: &mut StepPlan, mut budget: usize) -> usize {
        let mut queue = std::mem::take(&mut self.running);
        let (mut kept, mut next) = (0, 0);
        while let Some(&seq) = queue.get(next) {
            next += 1;
            if self.sequences[seq.0 as usize].is_some() {
                budget -= self.serve(seq, &mut queue, next, plan, budget);
                queue[kept] = seq;
                kept += 1;
            }
        }
        queue.truncate(kept);
        self.running = queue;
        budget
    }

    /// Plan the next tokens of a running sequence. Those in `queue` from `next` on rank below it and have nothing
    /// planned yet: their blocks may be taken, as many as are needed for one token. Gives what it took of `budget`.
    fn serve(
        &mut self,
        seq: SeqId,
        queue: &mut Vec<SeqId>,
        next: usize,
        plan: &mut StepPlan,
        budget: usize,
    ) -> usize {
        let block_size = self.config.block_size;
        let Some(sequence) = self.sequence(seq) else { return 0 };
        let prefilling = sequence.is_prefilling();
        let (len, computed, num_blocks) = (sequence.len(), sequence.computed, sequence.table.len());
        let want = if prefilling { (len - computed).min(budget) } else { 1 };

        let mut chunk = want.min(num_blocks * block_size - computed);
        if chunk < want {
            let room = |free: usize| (num_blocks + free) * block_size - computed;
            while room(self.pool.num_free()) == 0 && queue.len() > next {
                queue.pop().into_iter().for_each(|victim| self.preempt(victim));
            }
            chunk = want.min(room(self.pool.num_free()));
        }
        if chunk > 0 {
            self.push_work(seq, chunk, false, plan);
        }
        if prefilling { chunk } else { 0 }
    }

    /// Take a running sequence's blocks and let it wait, to be computed again.
    fn preempt(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequence(seq) else { return };
        let prefilling = sequence.is_prefilling();
        sequence.table.clear();
        sequence.computed = 0;
        sequence.phase = Phase::Waiting;
        let rank = sequence.rank;
        self.waiting.insert((rank, seq));
        self.num_running -= 1;
        self.num_prefilling -= usize::from(prefilling);
        self.counts.preemptions += 1;
        self.step.preempted += 1;
    }

    /// Add `chunk` tokens of a sequence to the plan, with the blocks they need, which must be free.
    /// `reset`: the executor does not know its blocks.
    pub(super) fn push_work(&mut self, seq: SeqId, chunk: usize, reset: bool, plan: &mut StepPlan) {
        let Some(sequence) = self.sequences.get_mut(seq.0 as usize).and_then(Option::as_mut) else { return };
        let start = sequence.computed;
        let end = start + chunk;
        let first_block = if reset { 0 } else { sequence.table.len() };
        let (tokens_from, blocks_from) = (plan.tokens.len(), plan.blocks.len());

        while sequence.table.len() * self.config.block_size < end {
            let block = self.pool.allocate().expect("the caller counted the free blocks");
            sequence.table.push(block);
        }
        plan.blocks.extend(sequence.table.ids(first_block));
        let (prompt, answer) = sequence.tokens(start..end);
        plan.tokens.extend_from_slice(prompt);
        plan.tokens.extend_from_slice(answer);

        let decodes = !reset && !sequence.is_prefilling() && sequence.num_generated() > 0;
        if decodes {
            self.step.decode_tokens += chunk;
        } else {
            self.step.prefill_tokens += chunk;
        }
        plan.work.push(SequenceWork {
            seq,
            tokens: index(tokens_from)..index(plan.tokens.len()),
            start: index(start),
            reset_blocks: reset,
            blocks: index(blocks_from)..index(plan.blocks.len()),
            sample: end == sequence.len() && sequence.wants_tokens(),
            num_generated: index(sequence.num_generated()),
        });
    }
}

/// Plans count in 32 bits; the configuration was checked for that.
#[expect(clippy::cast_possible_truncation, reason = "bounded by the number of slots, which 32 bits count")]
fn index(count: usize) -> u32 {
    count as u32
}

//! What one step of the model does: the contract between scheduler and executor.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::request::SamplingParams;

/// Index of a KV block in the pool, `0..num_blocks`.
pub type BlockId = u32;

/// Dense index of a live sequence, `0..max_live_sequences`. Reused, but only after the sequence was
/// listed in [`StepPlan::finished`], so an executor may keep its state in a plain vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SeqId(pub u32);

/// One step: the work of every sequence that takes part in it.
///
/// All lists are flat, and a plan is reused between steps, so planning does not allocate.
/// Ranges of [`SequenceWork`] point into `tokens` and `blocks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Number of the step, counted from 1, without gaps.
    pub step: u64,
    /// Sequences gone since the last step: forget their state. Handled before `started`.
    pub finished: Vec<SeqId>,
    /// Sequences that appear for the first time; each also has an entry in `work`.
    pub started: Vec<StartedSequence>,
    /// Who computes what in this step, in batch order.
    pub work: Vec<SequenceWork>,
    /// Token ids to feed, flat.
    pub tokens: Vec<u32>,
    /// Block ids that extend block tables, flat.
    pub blocks: Vec<BlockId>,
}

/// What an executor must know of a sequence once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartedSequence {
    /// The sequence.
    pub seq: SeqId,
    /// Its whole prompt: penalties look at it.
    pub prompt: Arc<[u32]>,
    /// How its tokens are sampled.
    pub sampling: Arc<SamplingParams>,
}

/// The share of one sequence in a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceWork {
    /// The sequence.
    pub seq: SeqId,
    /// Its tokens of this step, a range of [`StepPlan::tokens`]; never empty.
    pub tokens: Range<u32>,
    /// Position of the first of these tokens; KV of all earlier positions is in its blocks.
    pub start: u32,
    /// Forget the block table first (first step of a sequence, or the first after a preemption).
    pub reset_blocks: bool,
    /// Blocks appended to its block table by this step, a range of [`StepPlan::blocks`].
    pub blocks: Range<u32>,
    /// Sample a token after the last position. False while a prompt is still being prefilled.
    pub sample: bool,
    /// Number of tokens generated so far: the position in the random stream of the request, and
    /// what `min_tokens` is compared with. A recomputed sequence keeps its count.
    pub num_generated: u32,
}

impl SequenceWork {
    /// Number of tokens fed.
    #[must_use]
    pub fn num_tokens(&self) -> usize {
        (self.tokens.end - self.tokens.start) as usize
    }
}

impl StepPlan {
    /// Nothing to compute and nobody to forget.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.work.is_empty() && self.finished.is_empty()
    }

    /// Whether every range lies in its list. A scheduler makes no other plans; one that came over a network may be anything.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let fits = |range: &Range<u32>, len: usize| range.start <= range.end && range.end as usize <= len;
        self.work
            .iter()
            .all(|work| fits(&work.tokens, self.tokens.len()) && fits(&work.blocks, self.blocks.len()))
    }

    /// The token ids `work` feeds.
    #[must_use]
    pub fn tokens_of(&self, work: &SequenceWork) -> &[u32] {
        &self.tokens[work.tokens.start as usize..work.tokens.end as usize]
    }

    /// The block ids `work` appends to its table.
    #[must_use]
    pub fn blocks_of(&self, work: &SequenceWork) -> &[BlockId] {
        &self.blocks[work.blocks.start as usize..work.blocks.end as usize]
    }

    /// Empty all lists, keep their memory, and number the plan.
    pub fn reset(&mut self, step: u64) {
        self.step = step;
        self.finished.clear();
        self.started.clear();
        self.work.clear();
        self.tokens.clear();
        self.blocks.clear();
    }
}

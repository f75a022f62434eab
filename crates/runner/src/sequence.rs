//! What an executor remembers of a live sequence.

use std::sync::Arc;

use vlinders_engine::{
    BlockId, PromptLogprobs, SamplingParams, SeqId, SequenceWork, StartedSequence, StepPlan, TokenLogprobs,
};

use crate::History;

/// State of one sequence, from its first step until it is finished.
pub(crate) struct Sequence {
    pub(crate) prompt: Arc<[u32]>,
    pub(crate) sampling: Arc<SamplingParams>,
    pub(crate) history: History,
    /// The blocks of its keys and values, in order.
    pub(crate) table: Vec<BlockId>,
    /// First prompt position whose log-probability was not reported yet. A recomputed prompt is not reported twice.
    pub(crate) unreported: u32,
}

// === impl Sequence ===

impl Sequence {
    pub(crate) fn new(started: &StartedSequence) -> Self {
        Self {
            prompt: Arc::clone(&started.prompt),
            sampling: Arc::clone(&started.sampling),
            history: History::new(&started.prompt, &started.sampling),
            table: Vec::new(),
            unreported: 1,
        }
    }

    /// Take over the blocks of a step.
    pub(crate) fn extend_table(&mut self, plan: &StepPlan, work: &SequenceWork) {
        if work.reset_blocks {
            self.table.clear();
        }
        self.table.extend_from_slice(plan.blocks_of(work));
    }

    /// Append the log-probabilities of the prompt token at `position` to the run of this sequence, which is `seq`.
    pub(crate) fn report(
        &mut self,
        seq: SeqId,
        position: u32,
        logprobs: TokenLogprobs,
        out: &mut Vec<(SeqId, PromptLogprobs)>,
    ) {
        self.unreported = position + 1;
        match out.last_mut() {
            Some((last, run)) if *last == seq => run.tokens.push(logprobs),
            _ => out.push((seq, PromptLogprobs { start: position, tokens: vec![logprobs] })),
        }
    }

    /// The prompt positions whose log-probabilities the tokens of this step give.
    pub(crate) fn reported_by(&self, work: &SequenceWork) -> std::ops::Range<u32> {
        if self.sampling.prompt_logprobs.is_none() {
            return 0..0;
        }
        // the logits of a position are about the token that follows it
        let first = (work.start + 1).max(self.unreported);
        let end = (work.start + work.num_tokens() as u32 + 1).min(self.prompt.len() as u32);
        first..end.max(first)
    }
}

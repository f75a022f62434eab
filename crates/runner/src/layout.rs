//! From a plan to a flat batch: what every executor keeps of live sequences, and what each row of logits is for.

use vlinders_engine::{ExecutorError, Sampled, SeqId, SequenceWork, StepOutput, StepPlan};
use vlinders_layers::{Batch, LogitRows};

use crate::Sampler;
use crate::sequence::Sequence;

/// Live sequences, and the work of a step as a batch.
#[derive(Default)]
pub(crate) struct Layout {
    pub(crate) batch: Batch,
    sequences: Vec<Option<Sequence>>,
    uses: Vec<RowUse>,
}

/// What a row of logits is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowUse {
    /// The next token of a work item.
    Sample { work: usize },
    /// The log-probability of the prompt token at `position` of a work item.
    Prompt { work: usize, position: u32 },
    /// Nothing.
    Unused,
}

// === impl Layout ===

impl Layout {
    /// Forget who is gone, and learn of who is new.
    pub(crate) fn update_sequences(&mut self, plan: &StepPlan) {
        for seq in &plan.finished {
            if let Some(slot) = self.sequences.get_mut(seq.0 as usize) {
                *slot = None;
            }
        }
        for started in &plan.started {
            let slot = started.seq.0 as usize;
            if slot >= self.sequences.len() {
                self.sequences.resize_with(slot + 1, || None);
            }
            self.sequences[slot] = Some(Sequence::new(started));
        }
    }

    /// Lay out the work of the plan as a flat batch.
    pub(crate) fn fill(&mut self, plan: &StepPlan, block_size: usize) -> Result<(), ExecutorError> {
        self.batch.clear();
        self.uses.clear();
        for (i, work) in plan.work.iter().enumerate() {
            let sequence = live(&mut self.sequences, work.seq)?;
            sequence.extend_table(plan, work);
            let tokens = plan.tokens_of(work);
            let end = work.start as usize + tokens.len();
            if tokens.is_empty() || sequence.table.len() * block_size < end {
                return Err(ExecutorError(format!(
                    "step {}: sequence {} has {} blocks of {block_size} for positions up to {end}",
                    plan.step,
                    work.seq.0,
                    sequence.table.len()
                )));
            }
            let reported = sequence.reported_by(work);
            let rows = match (reported.is_empty(), work.sample) {
                (true, false) => LogitRows::None,
                (true, true) => LogitRows::Last,
                (false, _) => LogitRows::All,
            };
            self.batch.push(tokens, work.start, &sequence.table, block_size, rows);
            if rows == LogitRows::All {
                let use_of = |position| match position {
                    p if reported.contains(&p) => RowUse::Prompt { work: i, position: p },
                    _ => RowUse::Unused,
                };
                self.uses.extend((work.start + 1..work.start + 1 + tokens.len() as u32).map(use_of));
                if work.sample
                    && let Some(last) = self.uses.last_mut()
                {
                    *last = RowUse::Sample { work: i };
                }
            } else if rows == LogitRows::Last {
                self.uses.push(RowUse::Sample { work: i });
            }
        }
        Ok(())
    }

    /// What each row of logits is for, in the order of [`Batch::logit_rows`].
    pub(crate) fn uses(&self) -> &[RowUse] {
        &self.uses
    }

    /// A live sequence.
    pub(crate) fn sequence(&mut self, seq: SeqId) -> Result<&mut Sequence, ExecutorError> {
        live(&mut self.sequences, seq)
    }

    /// Sample, and report log-probabilities of prompts, from rows of logits of `vocab` numbers, the first of which is row
    /// `first`.
    pub(crate) fn read(
        &mut self,
        plan: &StepPlan,
        sampler: &mut Sampler,
        first: usize,
        logits: &[f32],
        vocab: usize,
        output: &mut StepOutput,
    ) -> Result<(), ExecutorError> {
        for (row, used) in logits.chunks_exact(vocab).zip(&self.uses[first..]) {
            match *used {
                RowUse::Unused => {}
                RowUse::Sample { work } => {
                    let work = &plan.work[work];
                    let sequence = live(&mut self.sequences, work.seq)?;
                    output.sampled.push(sample(sampler, sequence, work, row));
                }
                RowUse::Prompt { work, position } => {
                    let seq = plan.work[work].seq;
                    let sequence = live(&mut self.sequences, seq)?;
                    let top = sequence.sampling.prompt_logprobs.unwrap_or(0);
                    let logprobs = sampler.logprobs(row, sequence.prompt[position as usize], top);
                    sequence.report(seq, position, logprobs, &mut output.prompt_logprobs);
                }
            }
        }
        Ok(())
    }
}

fn sample(sampler: &mut Sampler, sequence: &mut Sequence, work: &SequenceWork, logits: &[f32]) -> Sampled {
    let sampled = sampler.sample(logits, &sequence.sampling, &sequence.history, work.num_generated);
    if let Sampled::Token { token, .. } = sampled {
        sequence.history.push(token);
    }
    sampled
}

/// What stops an executor, in its own words.
pub(crate) fn failed(error: impl std::fmt::Display) -> ExecutorError {
    ExecutorError(error.to_string())
}

fn live(sequences: &mut [Option<Sequence>], seq: SeqId) -> Result<&mut Sequence, ExecutorError> {
    let found = sequences.get_mut(seq.0 as usize).and_then(Option::as_mut);
    found.ok_or_else(|| ExecutorError(format!("sequence {} was never started", seq.0)))
}

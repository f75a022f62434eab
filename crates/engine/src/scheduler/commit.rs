//! What the outcome of a step means for its sequences: full blocks, new tokens, finished answers.

use crate::event::{FinishReason, TokenEvent};
use crate::executor::{ExecutorError, Sampled, StepOutput};
use crate::plan::{SeqId, StepPlan};
use crate::sequence::Phase;

use super::{Events, Scheduler};

impl Scheduler {
    /// Take in what the executor made of the plan.
    ///
    /// # Errors
    /// The outcome does not answer the plan; nothing can be said of any sequence any more.
    pub fn commit(
        &mut self,
        plan: &StepPlan,
        output: StepOutput,
        events: &mut Events,
    ) -> Result<(), ExecutorError> {
        for (seq, run) in output.prompt_logprobs {
            if let Some(sequence) = self.sequence(seq) {
                sequence.keep_prompt_logprobs(run)?;
            }
        }
        let given = output.sampled.len();
        let mut sampled = output.sampled.into_iter();
        for work in &plan.work {
            self.advance(work.seq, work.num_tokens(), events)?;
            if work.sample {
                let wrong_number = || wrong_number(plan, given);
                self.take_sample(work.seq, sampled.next().ok_or_else(wrong_number)?, events);
            }
            self.update_phase(work.seq);
        }
        if sampled.next().is_some() {
            return Err(wrong_number(plan, given));
        }
        self.counts.steps += 1;
        self.in_step = false;
        Ok(())
    }

    /// Tokens of a sequence are computed. Ends it when no more is wanted than its prompt.
    fn advance(&mut self, seq: SeqId, num_tokens: usize, events: &mut Events) -> Result<(), ExecutorError> {
        let Some(sequence) = self.sequences.get_mut(seq.0 as usize).and_then(Option::as_mut) else {
            return Ok(());
        };
        let hasher = self.config.prefix_caching.then_some(&mut self.hasher);
        sequence.advance(num_tokens, self.config.block_size, hasher);
        if !sequence.completes_prompt() {
            return Ok(());
        }
        self.counts.prompt_tokens += sequence.prompt().len() as u64;
        if let Some(logprobs) = sequence.take_prompt_logprobs()? {
            events.push((seq, TokenEvent::PromptLogprobs(logprobs)));
        }
        if !sequence.wants_tokens() {
            events.push((seq, TokenEvent::Finished { reason: FinishReason::Length }));
            self.remove(seq);
        }
        Ok(())
    }

    fn take_sample(&mut self, seq: SeqId, sampled: Sampled, events: &mut Events) {
        let Some(sequence) = self.sequences.get_mut(seq.0 as usize).and_then(Option::as_mut) else { return };
        match sampled {
            Sampled::Token { token, logprobs } => {
                self.counts.generation_tokens += 1;
                let end = sequence.ends_with(token);
                if !matches!(end, Some(FinishReason::Stop { .. })) {
                    sequence.push(token);
                    events.push((seq, TokenEvent::Token { token, logprobs }));
                }
                if let Some(reason) = end {
                    events.push((seq, TokenEvent::Finished { reason }));
                    self.remove(seq);
                }
            }
            Sampled::Failed(why) => {
                events.push((seq, TokenEvent::Failed(why)));
                self.remove(seq);
            }
        }
    }

    /// A prompt that is computed up to its last token decodes from now on.
    fn update_phase(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(seq.0 as usize).and_then(Option::as_mut) else { return };
        if sequence.is_prefilling() && sequence.remaining() <= 1 {
            sequence.phase = Phase::Running { prefilling: false };
            self.num_prefilling -= 1;
        }
    }
}

fn wrong_number(plan: &StepPlan, given: usize) -> ExecutorError {
    let asked = plan.work.iter().filter(|work| work.sample).count();
    ExecutorError(format!("step {} asked for {asked} tokens and got {given}", plan.step))
}

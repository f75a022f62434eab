//! Executes plans on one rank: plan to batch, forward, logits, and on the first rank samples.

use candle_core::{Device, Layout, Storage, Tensor};
use vlinders_engine::{
    Executor, ExecutorError, PromptLogprobs, Sampled, SeqId, SequenceWork, StepOutput, StepPlan,
};
use vlinders_kernels::{StepGuard, Team, begin_step, parallel_for};
use vlinders_layers::{Batch, KvStore, LayerError, LogitRows};
use vlinders_models::CausalLm;

use crate::Sampler;
use crate::sequence::Sequence;

/// Rows of logits that are held at once; a row is as long as the vocabulary.
const LOGIT_ROWS: usize = 64;

/// A model on this machine, or the share of it that one rank has, and the state of its live sequences.
pub struct LocalExecutor {
    model: Box<dyn CausalLm>,
    kv: KvStore,
    compute: Compute,
    sequences: Vec<Option<Sequence>>,
    sampler: Sampler,
    batch: Batch,
    uses: Vec<RowUse>,
}

/// Which threads a step computes with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compute {
    /// Those of the process, up to so many; `None` is all.
    Shared(Option<usize>),
    /// Those of a rank.
    Team(Team),
}

/// What a row of logits is for.
#[derive(Clone, Copy)]
enum RowUse {
    /// The next token of a work item.
    Sample { work: usize },
    /// The log-probability of the prompt token at `position` of a work item.
    Prompt { work: usize, position: u32 },
    /// Nothing.
    Unused,
}

/// What a communicator adds up with: the threads of the step that calls it.
pub(crate) fn on_threads_of_step(count: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), String> {
    parallel_for(count, body).map_err(|error| error.to_string())
}

// === impl Compute ===

impl Compute {
    fn begin_step(self) -> StepGuard {
        match self {
            Self::Shared(num_threads) => begin_step(num_threads),
            Self::Team(team) => team.begin_step(),
        }
    }
}

// === impl LocalExecutor ===

impl LocalExecutor {
    pub(crate) fn new(model: Box<dyn CausalLm>, kv: KvStore, compute: Compute) -> Self {
        Self {
            model,
            kv,
            compute,
            sequences: Vec::new(),
            sampler: Sampler::default(),
            batch: Batch::default(),
            uses: Vec::new(),
        }
    }

    /// Compute one token in the first block, whose contents nobody has use for yet. It reads every weight once, and so finds
    /// out whether the model runs at all; more tokens would only take longer, since their memory comes as fast later.
    pub(crate) fn warm_up(&mut self) -> Result<(), LayerError> {
        let _step = self.compute.begin_step();
        self.batch.clear();
        self.batch.push(&[0], 0, &[0], self.kv.block_size(), LogitRows::Last);
        let hidden = self.model.forward(&self.batch, &mut self.kv)?;
        self.model.logits(&hidden)?;
        Ok(())
    }

    /// Forget who is gone, and learn of who is new.
    fn update_sequences(&mut self, plan: &StepPlan) {
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
    fn fill_batch(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        self.batch.clear();
        self.uses.clear();
        let block_size = self.kv.block_size();
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

    /// Sample, and report log-probabilities of prompts, from the hidden states of a step.
    fn read_out(&mut self, plan: &StepPlan, hidden: &Tensor) -> Result<StepOutput, ExecutorError> {
        let mut output = StepOutput::default();
        let rows = self.batch.logit_rows();
        for (rows, uses) in rows.chunks(LOGIT_ROWS).zip(self.uses.chunks(LOGIT_ROWS)) {
            let logits = logits_of(self.model.as_ref(), hidden, rows).map_err(|e| failed(&e))?;
            let Some(logits) = logits else { continue };
            let (storage, layout) = logits.storage_and_layout();
            let logits = on_cpu(&storage, layout).map_err(|e| failed(&e))?;
            let vocab = self.model.vocab_size();
            for (row, used) in logits.chunks_exact(vocab).zip(uses) {
                match *used {
                    RowUse::Unused => {}
                    RowUse::Sample { work } => {
                        let work = &plan.work[work];
                        let sequence = live(&mut self.sequences, work.seq)?;
                        output.sampled.push(sample(&mut self.sampler, sequence, work, row));
                    }
                    RowUse::Prompt { work, position } => {
                        let seq = plan.work[work].seq;
                        let sequence = live(&mut self.sequences, seq)?;
                        report(&mut self.sampler, sequence, seq, position, row, &mut output.prompt_logprobs);
                    }
                }
            }
        }
        Ok(output)
    }
}

impl Executor for LocalExecutor {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        self.update_sequences(plan);
        if plan.work.is_empty() {
            return Ok(StepOutput::default());
        }
        let _step = self.compute.begin_step();
        self.fill_batch(plan)?;
        let hidden = self.model.forward(&self.batch, &mut self.kv).map_err(|e| failed(&e))?;
        self.read_out(plan, &hidden)
    }
}

/// Logits of some rows, `[rows, vocab]`, where this is the first rank.
fn logits_of(model: &dyn CausalLm, hidden: &Tensor, rows: &[u32]) -> Result<Option<Tensor>, LayerError> {
    let rows = Tensor::from_slice(rows, rows.len(), &Device::Cpu)?;
    let logits = model.logits(&hidden.index_select(&rows, 0)?)?;
    Ok(logits.map(|logits| logits.contiguous()).transpose()?)
}

/// The numbers of a contiguous tensor, where they are: a step has too many of them to copy.
fn on_cpu<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32], LayerError> {
    let Storage::Cpu(storage) = storage else {
        return Err(candle_core::Error::msg("logits are not on the CPU").into());
    };
    let numbers = storage.as_slice::<f32>()?;
    let (start, end) = layout.contiguous_offsets().unwrap_or((0, numbers.len()));
    Ok(&numbers[start..end])
}

fn sample(sampler: &mut Sampler, sequence: &mut Sequence, work: &SequenceWork, logits: &[f32]) -> Sampled {
    let sampled = sampler.sample(logits, &sequence.sampling, &sequence.history, work.num_generated);
    if let Sampled::Token { token, .. } = sampled {
        sequence.history.push(token);
    }
    sampled
}

/// Append the log-probability of the prompt token at `position` to the run of its sequence.
fn report(
    sampler: &mut Sampler,
    sequence: &mut Sequence,
    seq: SeqId,
    position: u32,
    logits: &[f32],
    out: &mut Vec<(SeqId, PromptLogprobs)>,
) {
    let token = sequence.prompt[position as usize];
    let top = sequence.sampling.prompt_logprobs.unwrap_or(0);
    let logprobs = sampler.logprobs(logits, token, top);
    sequence.unreported = position + 1;
    match out.last_mut() {
        Some((last, run)) if *last == seq => run.tokens.push(logprobs),
        _ => out.push((seq, PromptLogprobs { start: position, tokens: vec![logprobs] })),
    }
}

fn live(sequences: &mut [Option<Sequence>], seq: SeqId) -> Result<&mut Sequence, ExecutorError> {
    let found = sequences.get_mut(seq.0 as usize).and_then(Option::as_mut);
    found.ok_or_else(|| ExecutorError(format!("sequence {} was never started", seq.0)))
}

fn failed(error: &LayerError) -> ExecutorError {
    ExecutorError(error.to_string())
}

//! Executes plans on one rank on the CPU: plan to batch, forward, logits, and on the first rank samples.

use candle_core::{Layout as TensorLayout, Storage};
use vlinders_device::Tensor;
use vlinders_engine::{Executor, ExecutorError, StepOutput, StepPlan};
use vlinders_kernels::ops::{self, Ids};
use vlinders_kernels::{StepGuard, Team, begin_step, parallel_for};
use vlinders_layers::{KvStore, LayerError, LogitRows};
use vlinders_models::CausalLm;

use crate::Sampler;
use crate::layout::{Layout, failed};

/// Rows of logits that are held at once; a row is as long as the vocabulary.
const LOGIT_ROWS: usize = 64;

/// A model on this machine's CPU, or the share of it that one rank has, and the state of its live sequences.
pub(crate) struct LocalExecutor {
    model: Box<dyn CausalLm>,
    kv: KvStore,
    compute: Compute,
    layout: Layout,
    sampler: Sampler,
}

/// Which threads a step computes with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compute {
    /// Those of the process, up to so many; `None` is all.
    Shared(Option<usize>),
    /// Those of a rank.
    Team(Team),
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
        Self { model, kv, compute, layout: Layout::default(), sampler: Sampler::default() }
    }

    /// Compute one token in the first block, whose contents nobody has use for yet. It reads every weight once, and so finds
    /// out whether the model runs at all; more tokens would only take longer, since their memory comes as fast later.
    pub(crate) fn warm_up(&mut self) -> Result<(), LayerError> {
        let _step = self.compute.begin_step();
        let batch = &mut self.layout.batch;
        batch.clear();
        batch.push(&[0], 0, &[0], self.kv.block_size(), LogitRows::Last);
        let hidden = self.model.forward(batch, &mut self.kv)?;
        self.model.logits(&hidden)?;
        Ok(())
    }

    /// Sample, and report log-probabilities of prompts, from the hidden states of a step.
    fn read_out(&mut self, plan: &StepPlan, hidden: &Tensor) -> Result<StepOutput, ExecutorError> {
        let mut output = StepOutput::default();
        let vocab = self.model.vocab_size();
        for first in (0..self.layout.uses().len()).step_by(LOGIT_ROWS) {
            let rows = self.layout.batch.logit_rows();
            let rows = &rows[first..rows.len().min(first + LOGIT_ROWS)];
            let logits = logits_of(self.model.as_ref(), hidden, rows).map_err(failed)?;
            let Some(logits) = logits else { continue };
            let (storage, layout) = logits.storage_and_layout();
            let logits = on_cpu(&storage, layout).map_err(failed)?;
            self.layout.read(plan, &mut self.sampler, first, logits, vocab, &mut output)?;
        }
        Ok(output)
    }
}

impl Executor for LocalExecutor {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        self.layout.update_sequences(plan);
        if plan.work.is_empty() {
            return Ok(StepOutput::default());
        }
        let _step = self.compute.begin_step();
        self.layout.fill(plan, self.kv.block_size())?;
        let hidden = self.model.forward(&self.layout.batch, &mut self.kv).map_err(failed)?;
        self.read_out(plan, &hidden)
    }
}

/// Logits of some rows, `[rows, vocab]`, where this is the first rank.
fn logits_of(
    model: &dyn CausalLm,
    hidden: &Tensor,
    rows: &[u32],
) -> Result<Option<candle_core::Tensor>, LayerError> {
    let Some(logits) = model.logits(&ops::gather_rows(hidden, Ids::Cpu(rows))?)? else { return Ok(None) };
    Ok(Some(logits.cpu("logits", "the result")?.contiguous()?))
}

/// The numbers of a contiguous tensor, where they are: a step has too many of them to copy.
fn on_cpu<'a>(storage: &'a Storage, layout: &TensorLayout) -> Result<&'a [f32], LayerError> {
    let Storage::Cpu(storage) = storage else {
        return Err(candle_core::Error::msg("logits are not on the CPU").into());
    };
    let numbers = storage.as_slice::<f32>()?;
    let (start, end) = layout.contiguous_offsets().unwrap_or((0, numbers.len()));
    Ok(&numbers[start..end])
}

//! Executes plans on one rank on a GPU: a step of one token for each sequence is a captured graph, others are launched.

mod graphs;
mod group;
mod room;
mod sampling;
mod watchdog;

use vlinders_comm::CommError;
use vlinders_device::{Gpu, GpuTensor, Tensor};
use vlinders_engine::{Executor, ExecutorError, StepOutput, StepPlan};
use vlinders_kernels::ops::{self, Ids};
use vlinders_layers::{GpuBatch, KvStore, LayerError, LogitRows};
use vlinders_models::CausalLm;

use self::graphs::Graphs;
pub(crate) use self::graphs::buckets;
pub(crate) use self::group::join;
pub(crate) use self::room::{left_for_cache, limits, num_sequences, set_aside_for_steps};
use self::sampling::Sampling;
pub(crate) use self::watchdog::{STEP_TIMEOUT, Watchdog};
use crate::LoadProgress;
use crate::layout::{Layout, failed};

/// Rows of logits that are held at once; a row is as long as the vocabulary.
pub(crate) const LOGIT_ROWS: usize = 256;

/// A model on a GPU, or the share of it that one rank has, and the state of its live sequences.
pub(crate) struct GpuExecutor {
    model: Box<dyn CausalLm>,
    kv: KvStore,
    gpu: Gpu,
    layout: Layout,
    sampling: Sampling,
    graphs: Graphs,
    /// Where devices wait for each other.
    watchdog: Option<Watchdog>,
}

// === impl GpuExecutor ===

impl GpuExecutor {
    pub(crate) fn new(
        model: Box<dyn CausalLm>,
        kv: KvStore,
        gpu: Gpu,
        batch: GpuBatch,
        num_sequences: usize,
        watchdog: Option<Watchdog>,
    ) -> Result<Self, LayerError> {
        let sampling = Sampling::new(&gpu, num_sequences, model.vocab_size())?;
        let mut layout = Layout::default();
        layout.batch.set_gpu(batch);
        Ok(Self { model, kv, gpu, layout, sampling, graphs: Graphs::default(), watchdog })
    }

    /// Compute one token in the first block, whose contents nobody has use for yet: kernels are loaded when they are first
    /// launched.
    pub(crate) fn warm_up(&mut self) -> Result<(), LayerError> {
        let batch = &mut self.layout.batch;
        batch.clear();
        batch.push(&[0], 0, &[0], self.kv.block_size(), LogitRows::Last);
        batch.upload(1)?;
        let hidden = self.model.forward(batch, &mut self.kv)?;
        self.model.logits(&hidden)?;
        Ok(self.gpu.wait()?)
    }

    /// Capture a graph for each number of tokens that steps are filled up to.
    pub(crate) fn capture_graphs(
        &mut self,
        sizes: &[usize],
        progress: &dyn LoadProgress,
    ) -> Result<(), LayerError> {
        self.graphs = Graphs::capture(
            &self.gpu,
            self.model.as_ref(),
            &mut self.kv,
            &mut self.layout.batch,
            sizes,
            progress,
        )?;
        Ok(())
    }

    /// Hidden states of a step whose batch is laid out, `[tokens, hidden]` or with rows that belong to nobody behind them.
    fn forward(&mut self, plan: &StepPlan) -> Result<Tensor, LayerError> {
        let num_tokens = self.layout.batch.tokens().len();
        let only_decodes = plan.work.iter().all(|work| work.num_tokens() == 1);
        let graph = if only_decodes { self.graphs.for_tokens(num_tokens) } else { None };
        if let Some(graph) = graph {
            self.layout.batch.upload(graph.num_tokens())?;
            if self.layout.batch.gpu().is_some_and(GpuBatch::is_decode) {
                return Ok(graph.launch()?.into());
            }
        }
        self.layout.batch.upload(num_tokens)?;
        self.model.forward(&self.layout.batch, &mut self.kv)
    }

    /// Logits of rows `first..first + count` of those that want them, where this is the first rank.
    fn logits(&self, hidden: &Tensor, first: usize, count: usize) -> Result<Option<GpuTensor>, LayerError> {
        let Some(batch) = self.layout.batch.gpu() else { return Ok(None) };
        let rows = batch.logit_rows().rows(first, count)?;
        let logits = self.model.logits(&ops::gather_rows(hidden, Ids::Gpu(&rows))?)?;
        Ok(logits.map(|logits| logits.gpu("logits", "the result").cloned()).transpose()?)
    }

    fn execute(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        let hidden = self.forward(plan).map_err(failed)?;
        let mut output = StepOutput::default();
        let rows = self.layout.uses().len();
        for first in (0..rows).step_by(LOGIT_ROWS) {
            let count = LOGIT_ROWS.min(rows - first);
            let Some(logits) = self.logits(&hidden, first, count).map_err(failed)? else { continue };
            self.sampling.read(plan, &mut self.layout, first, &logits, &mut output)?;
        }
        Ok(output)
    }
}

impl Executor for GpuExecutor {
    fn step(&mut self, plan: &StepPlan) -> Result<StepOutput, ExecutorError> {
        self.sampling.forget(&plan.finished);
        self.layout.update_sequences(plan);
        if plan.work.is_empty() {
            return Ok(StepOutput::default());
        }
        self.layout.fill(plan, self.kv.block_size())?;
        if let Some(watchdog) = &self.watchdog {
            watchdog.begin();
        }
        let output = self.execute(plan)?;
        if let Some(watchdog) = &self.watchdog {
            watchdog.end().map_err(|reason| failed(CommError::Broken(reason)))?;
        }
        Ok(output)
    }
}

//! Plans written by hand.

use std::path::Path;
use std::sync::Arc;

use vlinders_engine::{Executor, SamplingParams, SeqId, SequenceWork, StartedSequence, StepOutput, StepPlan};
use vlinders_kernels::gpu::tests_run_on_cuda;
use vlinders_runner::{
    DeviceChoice, KvDtype, Leader, LoadOptions, LoadedModel, ModelFiles, NoProgress, load,
};

/// Options that are enough for tiny models, with a cache that does not round.
pub(crate) fn options() -> LoadOptions {
    LoadOptions {
        kv_cache_dtype: Some(KvDtype::F32),
        kv_blocks: Some(40),
        max_model_len: Some(96),
        block_size: 4,
        warm_up: false,
        ..LoadOptions::default()
    }
}

pub(crate) fn load_folder(folder: &Path, options: &LoadOptions) -> LoadedModel {
    load(&ModelFiles::Folder(folder.to_owned()), options, &NoProgress).unwrap()
}

/// Greedy, everything else off.
pub(crate) fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// The device of tests, as users name it.
pub(crate) fn gpu() -> DeviceChoice {
    if tests_run_on_cuda().unwrap() { DeviceChoice::Cuda(0) } else { DeviceChoice::Emulated }
}

/// Builds plans and runs them.
pub(crate) struct Driver {
    executor: Leader,
    plan: StepPlan,
    step: u64,
}

/// The part of a sequence in a step.
pub(crate) struct Part<'a> {
    pub(crate) seq: u32,
    pub(crate) tokens: &'a [u32],
    pub(crate) start: u32,
    /// Its whole block table, when it is to be replaced.
    pub(crate) blocks: Option<&'a [u32]>,
    /// Number of the token to sample.
    pub(crate) sample: Option<u32>,
}

// === impl Driver ===

impl Driver {
    pub(crate) fn new(executor: Leader) -> Self {
        let mut driver = Self { executor, plan: StepPlan::default(), step: 0 };
        driver.next();
        driver
    }

    fn next(&mut self) {
        self.step += 1;
        self.plan.reset(self.step);
    }

    pub(crate) fn begin(&mut self, seq: u32, prompt: &[u32], sampling: SamplingParams) {
        let prompt: Arc<[u32]> = prompt.into();
        self.plan.started.push(StartedSequence { seq: SeqId(seq), prompt, sampling: Arc::new(sampling) });
    }

    pub(crate) fn finish(&mut self, seq: u32) {
        self.plan.finished.push(SeqId(seq));
    }

    /// Run one step.
    pub(crate) fn run(&mut self, parts: &[Part<'_>]) -> Result<StepOutput, String> {
        for part in parts {
            let first = self.plan.tokens.len() as u32;
            self.plan.tokens.extend_from_slice(part.tokens);
            let first_block = self.plan.blocks.len() as u32;
            self.plan.blocks.extend_from_slice(part.blocks.unwrap_or_default());
            self.plan.work.push(SequenceWork {
                seq: SeqId(part.seq),
                tokens: first..self.plan.tokens.len() as u32,
                start: part.start,
                reset_blocks: part.blocks.is_some(),
                blocks: first_block..self.plan.blocks.len() as u32,
                sample: part.sample.is_some(),
                num_generated: part.sample.unwrap_or(0),
            });
        }
        let output = self.executor.step(&self.plan).map_err(|e| e.to_string());
        self.next();
        output
    }
}

//! Who computes what in the next step: queues, the token budget, blocks, preemption.
//!
//! Every step has one token budget. Running sequences that decode get one token each, first; what is left goes to
//! prompts, those already running first, then new ones, in chunks. Sequences are served by rank (priority, then
//! arrival). A sequence that finds no block takes those of the one of lowest rank, which goes back to the waiting
//! queue and is recomputed later. A new sequence starts only when there is room for all its known tokens, so at most
//! one prompt is half computed after a step, and starting one sequence does not evict another.

use std::collections::BTreeSet;

use crate::block_pool::BlockPool;
use crate::config::{EngineConfig, NeverFits};
use crate::event::TokenEvent;
use crate::plan::{SeqId, StepPlan};
use crate::prefix::BlockHasher;
use crate::request::GenerateRequest;
use crate::sequence::{Phase, Rank, Sequence};
use crate::stats::{Stats, StepStats};

mod admit;
mod commit;
mod running;

/// What happened to whom, in order.
pub type Events = Vec<(SeqId, TokenEvent)>;

/// The queues of one engine. It knows no executor: [`Scheduler::plan`] says what to compute, [`Scheduler::commit`]
/// is told what came out.
#[derive(Debug)]
pub struct Scheduler {
    config: EngineConfig,
    pool: BlockPool,
    hasher: BlockHasher,
    /// Indexed by [`SeqId`].
    sequences: Vec<Option<Sequence>>,
    /// Ids to give to new sequences.
    free_ids: Vec<SeqId>,
    /// Ids the executor still knows of sequences that are gone.
    gone: Vec<SeqId>,
    waiting: BTreeSet<(Rank, SeqId)>,
    /// By rank; may list sequences that are gone until the next plan.
    running: Vec<SeqId>,
    num_running: usize,
    num_prefilling: usize,
    /// The head of the waiting queue did not fit when so many blocks were free.
    blocked: Option<(SeqId, usize)>,
    arrivals: u64,
    /// The step planned last.
    step: StepStats,
    /// It is being executed.
    in_step: bool,
    counts: Counts,
}

/// Sums since the start.
#[derive(Debug, Default)]
struct Counts {
    steps: u64,
    preemptions: u64,
    prefix_query_tokens: u64,
    prefix_hit_tokens: u64,
    prompt_tokens: u64,
    generation_tokens: u64,
}

impl Scheduler {
    /// Empty queues, all blocks free.
    #[must_use]
    pub fn new(config: EngineConfig) -> Self {
        Self {
            pool: BlockPool::new(config.num_blocks),
            hasher: BlockHasher::new(),
            sequences: Vec::new(),
            free_ids: Vec::new(),
            gone: Vec::new(),
            waiting: BTreeSet::new(),
            running: Vec::new(),
            num_running: 0,
            num_prefilling: 0,
            blocked: None,
            arrivals: 0,
            step: StepStats::default(),
            in_step: false,
            counts: Counts::default(),
            config,
        }
    }

    /// Put a request into the waiting queue.
    ///
    /// # Errors
    /// It can never run, since it alone needs more than there is.
    pub fn submit(&mut self, request: &GenerateRequest) -> Result<SeqId, NeverFits> {
        self.config.check_fits(request)?;
        let sequence = Sequence::new(request, self.arrivals);
        self.arrivals += 1;
        let seq = self.free_ids.pop().unwrap_or_else(|| {
            self.sequences.push(None);
            let last = self.sequences.len() - 1;
            SeqId(u32::try_from(last).expect("far fewer requests than 32 bits count fit into memory"))
        });
        self.waiting.insert((sequence.rank, seq));
        self.sequences[seq.0 as usize] = Some(sequence);
        Ok(seq)
    }

    /// Forget a sequence and take its blocks back; not between [`Scheduler::plan`] and [`Scheduler::commit`].
    pub fn cancel(&mut self, seq: SeqId) {
        debug_assert!(!self.in_step, "the step being executed writes into its blocks");
        self.remove(seq);
    }

    /// Decide the next step and write it into `plan`. The plan may be empty; then there is nothing to commit.
    pub fn plan(&mut self, plan: &mut StepPlan, events: &mut Events) {
        plan.reset(self.counts.steps + 1);
        self.step = StepStats { step: plan.step, ..StepStats::default() };
        plan.finished.append(&mut self.gone);
        self.free_ids.extend_from_slice(&plan.finished);
        let decodes = self.num_running - self.num_prefilling;
        let left = self.plan_running(plan, self.config.max_batched_tokens - decodes);
        self.plan_waiting(plan, left, events);
        self.step.sequences = plan.work.len();
        self.step.running = self.num_running;
        self.step.waiting = self.waiting.len();
        self.in_step = !plan.is_empty();
    }

    /// Whether a step is being executed, or [`Scheduler::plan`] would find anything to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.in_step || self.num_live() > 0 || !self.gone.is_empty()
    }

    /// Number of sequences that run or wait.
    #[must_use]
    pub fn num_live(&self) -> usize {
        self.num_running + self.waiting.len()
    }

    /// What the step planned last does.
    #[must_use]
    pub fn step_stats(&self) -> StepStats {
        self.step
    }

    /// All counts as of now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            running: self.num_running,
            waiting: self.waiting.len(),
            blocks_total: self.pool.num_blocks(),
            blocks_used: self.pool.num_held(),
            blocks_cached: self.pool.num_idle(),
            preemptions: self.counts.preemptions,
            prefix_query_tokens: self.counts.prefix_query_tokens,
            prefix_hit_tokens: self.counts.prefix_hit_tokens,
            prompt_tokens: self.counts.prompt_tokens,
            generation_tokens: self.counts.generation_tokens,
            steps: self.counts.steps,
            has_work: self.has_work(),
            ..Stats::default()
        }
    }

    fn sequence(&mut self, seq: SeqId) -> Option<&mut Sequence> {
        self.sequences.get_mut(seq.0 as usize)?.as_mut()
    }

    /// Forget a sequence, wherever it is; its blocks go back.
    fn remove(&mut self, seq: SeqId) {
        let Some(sequence) = self.sequences.get_mut(seq.0 as usize).and_then(Option::take) else { return };
        match sequence.phase {
            Phase::Waiting => {
                self.waiting.remove(&(sequence.rank, seq));
                self.blocked = self.blocked.filter(|(blocked, _)| *blocked != seq);
            }
            Phase::Running { prefilling } => {
                self.num_running -= 1;
                self.num_prefilling -= usize::from(prefilling);
            }
        }
        if sequence.started {
            self.gone.push(seq);
        } else {
            self.free_ids.push(seq);
        }
    }
}

#[cfg(test)]
mod tests;

//! What is known of an engine from outside: its state, its counts, its steps.

/// Whether an engine takes requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EngineState {
    /// It takes requests.
    #[default]
    Running,
    /// It refuses new requests and finishes those it has.
    Draining,
    /// It has finished all it had after a drain; its thread is gone.
    Stopped,
    /// The model failed, every request was told so, and none is taken any more.
    Failed(String),
}

/// Counts of one engine, exact after every command and every step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Whether it takes requests.
    pub state: EngineState,
    /// Sequences that hold KV blocks and take part in steps.
    pub running: usize,
    /// Requests that wait: those submitted and not yet scheduled, and those preempted.
    pub waiting: usize,
    /// KV blocks there are.
    pub blocks_total: usize,
    /// KV blocks held by sequences. The others are free.
    pub blocks_used: usize,
    /// Free KV blocks whose content can be found again by its prefix.
    pub blocks_cached: usize,
    /// Times a sequence lost its blocks to another.
    pub preemptions: u64,
    /// Prompt tokens looked up in the prefix cache, counted when a request is first scheduled.
    pub prefix_query_tokens: u64,
    /// Those of them that were found.
    pub prefix_hit_tokens: u64,
    /// Tokens of all prompts that were completely prefilled, cached ones included, recomputed ones once.
    pub prompt_tokens: u64,
    /// Tokens sampled.
    pub generation_tokens: u64,
    /// Steps the model has completed.
    pub steps: u64,
    /// There are requests or commands to work on. While this is true `steps` must advance: a health check that
    /// sees the same `steps` for longer than a step can take knows that the model hangs.
    pub has_work: bool,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StepStats {
    /// Number of the step, from 1.
    pub step: u64,
    /// Sequences that took part.
    pub sequences: usize,
    /// Tokens fed to fill the cache: of prompts, and of answers that are recomputed.
    pub prefill_tokens: usize,
    /// Tokens fed that were sampled in an earlier step, one for each sequence that decodes.
    pub decode_tokens: usize,
    /// Sequences that left the waiting queue.
    pub admitted: usize,
    /// Sequences that lost their blocks.
    pub preempted: usize,
    /// Sequences running after the step was planned.
    pub running: usize,
    /// Sequences waiting after the step was planned.
    pub waiting: usize,
}

/// Hears of every step, on the engine's thread: keep it short. The engine has no clock; an observer may have one.
pub trait Observer: Send {
    /// The loop has waited for work, and there is some.
    fn resumed(&mut self) {}

    /// A step was planned and is about to be executed.
    fn step_planned(&mut self, step: &StepStats) {
        let _ = step;
    }

    /// The model has executed the step; what it gave is not committed yet.
    fn step_executed(&mut self) {}

    /// A step was committed, and its tokens are on their way.
    fn step(&mut self, step: &StepStats);
}

/// Observes nothing.
impl Observer for () {
    fn step(&mut self, _step: &StepStats) {}
}

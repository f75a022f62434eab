//! What a load tells while it runs, and afterwards.

use std::time::Duration;

/// Told how a load gets on; called from several threads.
pub trait LoadProgress: Send + Sync {
    /// A phase begins.
    fn phase(&self, phase: LoadPhase);

    /// So many bytes of the weights are in place.
    fn bytes(&self, done: u64, total: u64);

    /// So many graphs of steps are captured; only on GPUs.
    fn graphs(&self, _done: usize, _total: usize) {}
}

/// A stage of loading. Reading and converting overlap: while one thread converts, others read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadPhase {
    /// Headers are read and checked.
    Open,
    /// Weights are read, converted and packed.
    Weights,
    /// The cache and the tables are made, and a first step runs.
    WarmUp,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

/// How long a load took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadReport {
    /// Reading and checking headers.
    pub open: Duration,
    /// Waiting for weights to be read: the share of the wall time of the weights.
    pub read: Duration,
    /// Converting and packing weights: the other share.
    pub convert: Duration,
    /// Making the cache and running the first step.
    pub warm_up: Duration,
    /// All of it.
    pub total: Duration,
    /// Bytes of weights read.
    pub bytes: u64,
}

// === impl NoProgress ===

impl LoadProgress for NoProgress {
    fn phase(&self, _: LoadPhase) {}

    fn bytes(&self, _: u64, _: u64) {}
}

// === impl LoadPhase ===

impl LoadPhase {
    /// Its name in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Weights => "weights",
            Self::WarmUp => "warm-up",
        }
    }
}

// === impl LoadReport ===

impl LoadReport {
    /// Names and durations of the phases, for logs and metrics.
    #[must_use]
    pub fn phases(&self) -> [(&'static str, Duration); 4] {
        [("open", self.open), ("read", self.read), ("convert", self.convert), ("warm_up", self.warm_up)]
    }
}

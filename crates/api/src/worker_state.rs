//! `GET /state`: what a worker tells the head about itself, all at once and cheap enough to be asked every second.

use serde::{Deserialize, Serialize};

/// How a worker is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerState {
    /// New with each start of the process: caches of a former one are gone.
    pub instance: String,
    /// Of the program.
    pub version: String,
    /// When the process started to serve, seconds since 1970.
    pub started: u64,
    /// New requests are taken; false once it shuts down.
    pub open: bool,
    /// Requests that were let in and are not answered yet.
    pub in_flight: usize,
    /// Its models.
    pub models: Vec<ModelState>,
}

/// How one of its models is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelState {
    /// The name that answers carry.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Whether it can be asked.
    pub condition: ModelCondition,
    /// Why not.
    pub why: Option<String>,
    /// Share of the weights that is in place, 0 to 1.
    pub load_progress: f64,
    /// What its start took, part by part.
    pub load_phases: Vec<LoadPhase>,
    /// Prompt and answer together, in tokens; `None` while it is loaded.
    pub max_model_len: Option<usize>,
    /// Members of its tensor-parallel group.
    pub ranks: usize,
    /// Sequences that take part in steps.
    pub running: usize,
    /// Sequences that wait.
    pub waiting: usize,
    /// Share of the KV cache that is held by sequences, 0 to 1.
    pub kv_usage: f64,
    /// Tokens that the KV cache has room for.
    pub kv_tokens: usize,
    /// Steps its engine has completed, on all ranks.
    pub steps: u64,
    /// There is something to compute: while this is so, `steps` rises.
    pub has_work: bool,
    /// What only rises.
    pub totals: ModelTotals,
}

/// Whether a model can be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelCondition {
    /// Its weights are on their way.
    #[default]
    Loading,
    /// It can.
    Ready,
    /// It finishes what it has.
    Draining,
    /// It has work and completes no step.
    Stalled,
    /// Its engine has failed.
    Failed,
}

/// A part of a start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadPhase {
    /// A word for people and dashboards.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}

/// Counts since the process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelTotals {
    /// Tokens of prompts that were prefilled, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens sampled.
    pub generation_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Those of them that were found.
    pub prefix_hits: u64,
    /// Answers that came to their end.
    pub finished: u64,
    /// Answers whose client left.
    pub aborted: u64,
    /// Answers that a failure ended.
    pub failed: u64,
    /// Seconds from arrival to first token.
    pub first_token: HistogramTotals,
    /// Seconds between two tokens of an answer.
    pub between_tokens: HistogramTotals,
}

/// A histogram so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistogramTotals {
    /// Upper bounds of the buckets, rising.
    pub bounds: Vec<f64>,
    /// Values in each bucket alone, with one bucket more for what is above the last bound.
    pub counts: Vec<u64>,
}

// === impl ModelTotals ===

impl ModelTotals {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.generation_tokens += other.generation_tokens;
        self.prefix_queries += other.prefix_queries;
        self.prefix_hits += other.prefix_hits;
        self.finished += other.finished;
        self.aborted += other.aborted;
        self.failed += other.failed;
        self.first_token.add(&other.first_token);
        self.between_tokens.add(&other.between_tokens);
    }
}

// === impl HistogramTotals ===

impl HistogramTotals {
    /// Both together. One with other bounds, which is of another version of the program, can not be added.
    pub fn add(&mut self, other: &Self) {
        if self.bounds.is_empty() {
            *self = other.clone();
        } else if self.bounds == other.bounds {
            for (count, more) in self.counts.iter_mut().zip(&other.counts) {
                *count += more;
            }
        }
    }
}

// === impl WorkerState ===

impl WorkerState {
    /// The model that clients call by this name.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelState> {
        self.models.iter().find(|model| model.names().any(|known| known == name))
    }
}

// === impl ModelState ===

impl ModelState {
    /// Name and aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_workers_add_up() {
        let histogram = |counts: [u64; 2]| HistogramTotals { bounds: vec![1.0], counts: counts.to_vec() };
        let mut sum = ModelTotals::default();
        for (number, counts) in [(1, [1, 0]), (20, [2, 3])] {
            let first_token = histogram(counts);
            sum.add(&ModelTotals {
                prompt_tokens: number,
                aborted: 2,
                first_token,
                ..ModelTotals::default()
            });
        }
        assert_eq!((sum.prompt_tokens, sum.aborted, sum.failed), (21, 4, 0));
        assert_eq!(sum.first_token, histogram([3, 3]));
        sum.first_token.add(&HistogramTotals { bounds: vec![2.0], counts: vec![9, 9] });
        assert_eq!(sum.first_token, histogram([3, 3]));
    }
}

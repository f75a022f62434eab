//! What is kept of a stretch of time: sums, from which rates, means and quantiles of any longer stretch follow.

use crate::histogram::HistogramTotals;
use crate::source::{ModelView, Totals};

/// What happened to a model in a stretch of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Slot {
    /// Number of the slot, counted from 1970.
    pub(super) idx: u64,
    /// Seconds between samples whose rise is in here.
    covered: f64,
    prompt_tokens: u64,
    generation_tokens: u64,
    prefix_queries: u64,
    prefix_hits: u64,
    requests_ok: u64,
    requests_failed: u64,
    pub(crate) first_token: HistogramTotals,
    pub(crate) between_tokens: HistogramTotals,
    /// Samples of what follows, which are sums over them.
    samples: u64,
    queued: u64,
    running: u64,
    waiting: u64,
    kv_usage: f64,
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(idx: u64) -> Self {
        Self { idx, ..Self::default() }
    }

    /// Count what a model is like at the moment.
    pub(super) fn observe(&mut self, model: &ModelView) {
        self.samples += 1;
        self.queued += model.queued as u64;
        self.running += model.running as u64;
        self.waiting += model.waiting as u64;
        self.kv_usage += if model.kv_usage.is_finite() { model.kv_usage.clamp(0.0, 1.0) } else { 0.0 };
    }

    /// Count what rose between two samples. What fell was started again and adds nothing.
    pub(super) fn rise(&mut self, seconds: f64, then: &Totals, now: &Totals) {
        self.covered += seconds;
        self.prompt_tokens += now.prompt_tokens.saturating_sub(then.prompt_tokens);
        self.generation_tokens += now.generation_tokens.saturating_sub(then.generation_tokens);
        self.requests_ok += now.requests_ok.saturating_sub(then.requests_ok);
        self.requests_failed += now.requests_failed.saturating_sub(then.requests_failed);
        // Hits without their queries would be a rate above one.
        if now.prefix_queries >= then.prefix_queries && now.prefix_hits >= then.prefix_hits {
            self.prefix_queries += now.prefix_queries - then.prefix_queries;
            self.prefix_hits += now.prefix_hits - then.prefix_hits;
        }
        self.first_token.add(&now.first_token.since(&then.first_token));
        self.between_tokens.add(&now.between_tokens.since(&then.between_tokens));
    }

    /// Put a later stretch to this one.
    pub(super) fn merge(&mut self, other: &Self) {
        self.covered += other.covered;
        self.prompt_tokens += other.prompt_tokens;
        self.generation_tokens += other.generation_tokens;
        self.prefix_queries += other.prefix_queries;
        self.prefix_hits += other.prefix_hits;
        self.requests_ok += other.requests_ok;
        self.requests_failed += other.requests_failed;
        self.first_token.add(&other.first_token);
        self.between_tokens.add(&other.between_tokens);
        self.samples += other.samples;
        self.queued += other.queued;
        self.running += other.running;
        self.waiting += other.waiting;
        self.kv_usage += other.kv_usage;
    }

    /// Prompt tokens in a second.
    pub(crate) fn prompt_rate(&self) -> Option<f64> {
        self.rate(self.prompt_tokens)
    }

    /// Generated tokens in a second.
    pub(crate) fn generation_rate(&self) -> Option<f64> {
        self.rate(self.generation_tokens)
    }

    /// Answered requests in a second.
    pub(crate) fn ok_rate(&self) -> Option<f64> {
        self.rate(self.requests_ok)
    }

    /// Failed requests in a second.
    pub(crate) fn failed_rate(&self) -> Option<f64> {
        self.rate(self.requests_failed)
    }

    /// Share of prompt tokens that the prefix cache had; none if it was not asked.
    pub(crate) fn hit_rate(&self) -> Option<f64> {
        (self.prefix_queries > 0).then(|| self.prefix_hits as f64 / self.prefix_queries as f64)
    }

    /// Mean number of requests at the head.
    pub(crate) fn queued(&self) -> Option<f64> {
        self.mean(self.queued as f64)
    }

    /// Mean number of running requests.
    pub(crate) fn running(&self) -> Option<f64> {
        self.mean(self.running as f64)
    }

    /// Mean number of requests waiting inside workers.
    pub(crate) fn waiting(&self) -> Option<f64> {
        self.mean(self.waiting as f64)
    }

    /// Mean share of KV blocks in use.
    pub(crate) fn kv_usage(&self) -> Option<f64> {
        self.mean(self.kv_usage)
    }

    fn rate(&self, count: u64) -> Option<f64> {
        (self.covered > 0.0).then(|| count as f64 / self.covered)
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.samples > 0).then(|| sum / self.samples as f64)
    }
}

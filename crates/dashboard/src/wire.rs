//! The history as JSON.

use serde::Serialize;

use crate::history::{History, SLOT_SECONDS, Slot};
use crate::range::Range;

/// Answer of `api/history`.
#[derive(Debug, Serialize)]
pub(crate) struct HistoryView {
    /// Seconds that a point stands for.
    step_seconds: u64,
    models: Vec<ModelHistory>,
}

#[derive(Debug, Serialize)]
struct ModelHistory {
    name: String,
    /// Oldest first; stretches without a sample are left out.
    points: Vec<Point>,
}

/// Rates are per second, times in seconds, shares from 0 to 1; null where nothing is known.
#[derive(Debug, Serialize)]
struct Point {
    /// End of the stretch, in seconds since 1970.
    time: u64,
    prompt_tokens_per_second: Option<f64>,
    generation_tokens_per_second: Option<f64>,
    requests_ok_per_second: Option<f64>,
    requests_failed_per_second: Option<f64>,
    first_token_seconds: Quantiles,
    between_tokens_seconds: Quantiles,
    queued: Option<f64>,
    running: Option<f64>,
    waiting: Option<f64>,
    kv_usage: Option<f64>,
    prefix_hit_rate: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

// === impl HistoryView ===

impl HistoryView {
    /// The last `range` of one model or of all.
    pub(crate) fn new(history: &History, range: Range, only: Option<&str>) -> Self {
        let names = history.names().filter(|name| only.is_none_or(|only| only == *name));
        let models = names.map(|name| {
            let bins = history.bins(name, range.seconds(), SLOT_SECONDS);
            let first = history.end().saturating_sub((bins.len() as u64 - 1) * SLOT_SECONDS);
            let times = (0..).map(|idx| first + idx * SLOT_SECONDS);
            let points =
                times.zip(&bins).filter_map(|(time, bin)| bin.as_ref().map(|bin| Point::new(time, bin)));
            ModelHistory { name: name.to_owned(), points: points.collect() }
        });
        Self { step_seconds: SLOT_SECONDS, models: models.collect() }
    }
}

// === impl Point ===

impl Point {
    fn new(time: u64, slot: &Slot) -> Self {
        let quantiles = |histogram: &crate::histogram::HistogramTotals| Quantiles {
            p50: histogram.quantile(0.5),
            p95: histogram.quantile(0.95),
            p99: histogram.quantile(0.99),
        };
        Self {
            time,
            prompt_tokens_per_second: slot.prompt_rate(),
            generation_tokens_per_second: slot.generation_rate(),
            requests_ok_per_second: slot.ok_rate(),
            requests_failed_per_second: slot.failed_rate(),
            first_token_seconds: quantiles(&slot.first_token),
            between_tokens_seconds: quantiles(&slot.between_tokens),
            queued: slot.queued(),
            running: slot.running(),
            waiting: slot.waiting(),
            kv_usage: slot.kv_usage(),
            prefix_hit_rate: slot.hit_rate(),
        }
    }
}

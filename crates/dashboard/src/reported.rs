//! What workers report and servers note, in the words of the pages.

use std::time::Duration;

use vlinders_api::{LoadPhase, ModelCondition, ModelTotals};
use vlinders_edge::{FailedRequest, RequestStage, Running, RunningRequests};

use crate::histogram::HistogramTotals;
use crate::source::{ErrorView, RequestView, SHOWN_REQUESTS, Stage, Totals, WorkerState};

impl From<ModelTotals> for Totals {
    fn from(totals: ModelTotals) -> Self {
        Self {
            prompt_tokens: totals.prompt_tokens,
            generation_tokens: totals.generation_tokens,
            prefix_queries: totals.prefix_queries,
            prefix_hits: totals.prefix_hits,
            requests_ok: totals.finished,
            requests_failed: totals.failed,
            first_token: totals.first_token.into(),
            between_tokens: totals.between_tokens.into(),
        }
    }
}

impl From<vlinders_api::HistogramTotals> for HistogramTotals {
    fn from(totals: vlinders_api::HistogramTotals) -> Self {
        Self { bounds: totals.bounds, counts: totals.counts }
    }
}

impl From<ModelCondition> for WorkerState {
    fn from(condition: ModelCondition) -> Self {
        match condition {
            ModelCondition::Loading => Self::Loading,
            ModelCondition::Ready => Self::Ready,
            ModelCondition::Draining => Self::Draining,
            ModelCondition::Stalled => Self::Stalled,
            ModelCondition::Failed => Self::Failed,
        }
    }
}

impl From<&Running> for RequestView {
    fn from(request: &Running) -> Self {
        Self {
            id: request.request_id.clone(),
            model: request.model.to_string(),
            consumer: request.consumer.to_string(),
            worker: request.worker(),
            age: request.arrival.elapsed(),
            stage: match request.stage() {
                RequestStage::Queued => Stage::Queued,
                RequestStage::Prefill => Stage::Prefill,
                RequestStage::Decode => Stage::Decode,
            },
            tokens: u64::from(request.tokens()),
        }
    }
}

impl From<FailedRequest> for ErrorView {
    fn from(failed: FailedRequest) -> Self {
        Self {
            time: failed.time,
            model: Some(failed.model.to_string()),
            worker: failed.worker,
            request_id: failed.request_id,
            status: failed.status,
            message: failed.message,
        }
    }
}

/// Requests that run, the oldest first.
#[must_use]
pub fn requests(running: &RunningRequests) -> Vec<RequestView> {
    running.oldest(SHOWN_REQUESTS).iter().map(|request| request.as_ref().into()).collect()
}

/// Requests that failed last.
#[must_use]
pub fn errors(running: &RunningRequests) -> Vec<ErrorView> {
    running.failed().into_iter().map(Into::into).collect()
}

/// Parts of a cold start with their times. A peer may say anything: what is no time counts as none.
#[must_use]
pub fn phases(reported: &[LoadPhase]) -> Vec<(String, Duration)> {
    let time = |phase: &LoadPhase| Duration::try_from_secs_f64(phase.seconds).unwrap_or_default();
    reported.iter().map(|phase| (phase.name.clone(), time(phase))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_counts_as_none() {
        let told =
            [1.5, -1.0, f64::NAN, f64::INFINITY].map(|seconds| LoadPhase { name: "p".into(), seconds });
        let times: Vec<_> = phases(&told).iter().map(|(_, time)| time.as_secs_f64()).collect();
        assert_eq!(times, [1.5, 0.0, 0.0, 0.0]);
    }
}

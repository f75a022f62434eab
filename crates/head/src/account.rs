//! What is noted of a request when it ends, however it ends.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use vlinders_edge::{Stage, Trace, UsageReport};

use crate::metrics::{Outcome, RequestMetrics};

/// The account of one request. Dropped before its end, the client has left.
#[derive(Debug)]
pub(crate) struct Account {
    metrics: Arc<RequestMetrics>,
    arrival: Instant,
    trace: Trace,
    /// From the first byte to the last.
    answering: Option<Stage>,
    has_begun: bool,
    pub(crate) usage: Option<UsageReport>,
    end: Option<(Outcome, StatusCode)>,
}

// === impl Account ===

impl Account {
    /// Of a request that arrived at `arrival`.
    pub(crate) fn open(metrics: Arc<RequestMetrics>, arrival: Instant, trace: Trace) -> Self {
        Self { metrics, arrival, trace, answering: None, has_begun: false, usage: None, end: None }
    }

    /// The first byte of an answer is on its way to the client.
    pub(crate) fn first_byte(&mut self) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.answering = Some(self.trace.stage("answer"));
            self.metrics.first_byte.record(self.arrival.elapsed().as_secs_f64());
        }
    }

    /// It has ended; the first end counts.
    pub(crate) fn end(&mut self, outcome: Outcome, status: StatusCode) {
        self.end.get_or_insert((outcome, status));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (outcome, _) = self.end.unwrap_or((Outcome::Aborted, StatusCode::OK));
        self.trace.note("outcome", outcome.as_str());
        if let Some(usage) = self.usage {
            self.trace.note("gen_ai.usage.input_tokens", i64::from(usage.prompt_tokens));
            self.trace.note("gen_ai.usage.output_tokens", i64::from(usage.completion_tokens));
        }
        self.metrics.ended(outcome, self.arrival.elapsed(), self.usage);
    }
}

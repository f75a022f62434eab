//! What is noted of a request when it ends, however it ends.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use vlinders_edge::{Stage, Trace, UsageReport};

use crate::metrics::{Outcome, RequestMetrics};
use crate::running::{Listed, Running};

/// The account of one request. Dropped before its end, the client has left.
#[derive(Debug)]
pub(crate) struct Account {
    metrics: Arc<RequestMetrics>,
    listed: Listed,
    trace: Trace,
    /// From the first byte to the last.
    answering: Option<Stage>,
    usage: Option<UsageReport>,
    end: Option<(Outcome, StatusCode)>,
}

// === impl Account ===

impl Account {
    pub(crate) fn open(metrics: Arc<RequestMetrics>, listed: Listed, trace: Trace) -> Self {
        Self { metrics, listed, trace, answering: None, usage: None, end: None }
    }

    /// The request in the list of those that run.
    pub(crate) fn request(&self) -> &Running {
        &self.listed.request
    }

    /// The first byte of an answer is on its way to the client.
    pub(crate) fn first_byte(&mut self) {
        if self.answering.is_none() {
            self.answering = Some(self.trace.stage("answer"));
            self.request().answered();
            self.metrics.first_byte.record(self.request().arrival.elapsed().as_secs_f64());
        }
    }

    /// The worker has counted so far.
    pub(crate) fn count(&mut self, usage: Option<UsageReport>) {
        if let Some(usage) = usage {
            self.request().count(usage.completion_tokens);
            self.usage = Some(usage);
        }
    }

    /// It has ended; the first end counts.
    pub(crate) fn end(&mut self, outcome: Outcome, status: StatusCode) {
        self.end.get_or_insert((outcome, status));
    }

    /// It has failed, and the client was told so in these words.
    pub(crate) fn fail(&mut self, status: StatusCode, message: String) {
        if self.end.is_none() {
            self.listed.failed(status.as_u16(), message);
            self.end(Outcome::Failed, status);
        }
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
        self.metrics.ended(outcome, self.request().arrival.elapsed(), self.usage);
    }
}

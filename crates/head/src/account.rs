//! What is noted of a request when it ends, however it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use vlinders_consumers::Grant;
use vlinders_edge::{Listed, Running, Stage, Trace, UsageReport};
use vlinders_ledger::Entry;

use crate::head::Head;
use crate::metrics::{Outcome, RequestMetrics};

/// The account of one request. Dropped before its end, the client has left.
#[derive(Debug)]
pub(crate) struct Account {
    head: Head,
    metrics: Arc<RequestMetrics>,
    listed: Listed,
    received_at: SystemTime,
    route: &'static str,
    /// What the limits of the consumer were charged.
    grant: Option<Grant>,
    first_byte: Option<Duration>,
    trace: Trace,
    /// From the first byte to the last.
    answering: Option<Stage>,
    usage: Option<UsageReport>,
    end: Option<(Outcome, StatusCode)>,
}

const CLIENT_LEFT: u16 = 499;

// === impl Account ===

impl Account {
    /// Of a request that came to `route`.
    pub(crate) fn open(
        head: &Head,
        route: &'static str,
        metrics: Arc<RequestMetrics>,
        listed: Listed,
        trace: Trace,
    ) -> Self {
        Self {
            head: head.clone(),
            metrics,
            listed,
            received_at: SystemTime::now(),
            route,
            grant: None,
            first_byte: None,
            trace,
            answering: None,
            usage: None,
            end: None,
        }
    }

    /// The limits of its consumer were charged.
    pub(crate) fn charge(&mut self, grant: Grant) {
        self.grant = Some(grant);
    }

    /// Where its consumer stands under its limits, for the headers of the answer.
    pub(crate) fn write_limits(&self, headers: &mut HeaderMap) {
        if let Some(grant) = &self.grant {
            grant.write_headers(headers);
        }
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
            let took = self.request().arrival.elapsed();
            self.first_byte = Some(took);
            self.metrics.first_byte.record(took.as_secs_f64());
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
        let (outcome, status) = self.end.unwrap_or((Outcome::Aborted, StatusCode::OK));
        self.trace.note("outcome", outcome.as_str());
        if let Some(usage) = self.usage {
            self.trace.note("gen_ai.usage.input_tokens", i64::from(usage.prompt_tokens));
            self.trace.note("gen_ai.usage.output_tokens", i64::from(usage.completion_tokens));
        }
        let duration = self.request().arrival.elapsed();
        self.metrics.ended(outcome, duration, self.usage);
        // Of an answer that was not a stream and whose client left, nobody knows what it took: the estimate stays.
        let used = match (self.usage, outcome) {
            (Some(usage), _) => Some(u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens)),
            (None, Outcome::Aborted) => None,
            (None, _) => Some(0),
        };
        if let (Some(grant), Some(used)) = (self.grant.take(), used) {
            grant.settle(used);
        }
        if let Some(ledger) = self.head.ledger() {
            ledger.record(self.entry(outcome, status, duration));
        }
    }
}

impl Account {
    fn entry(&self, outcome: Outcome, status: StatusCode, duration: Duration) -> Entry {
        let request = self.request();
        let status = match outcome {
            // What proxies write for a client that left before anything was sent.
            Outcome::Aborted if self.first_byte.is_none() => CLIENT_LEFT,
            _ => status.as_u16(),
        };
        Entry {
            id: uuid::Uuid::now_v7(),
            request_id: request.request_id.clone(),
            consumer: request.consumer.to_string(),
            model: request.model.to_string(),
            route: self.route.to_owned(),
            worker: request.worker(),
            prompt_tokens: self.usage.map(|usage| usage.prompt_tokens),
            cached_tokens: self.usage.map(|usage| usage.cached_tokens),
            completion_tokens: self.usage.map(|usage| usage.completion_tokens),
            status,
            outcome: match outcome {
                Outcome::Aborted => vlinders_ledger::Outcome::Aborted,
                _ if (400..500).contains(&status) => vlinders_ledger::Outcome::Refused,
                Outcome::Finished => vlinders_ledger::Outcome::Finished,
                Outcome::Failed => vlinders_ledger::Outcome::Failed,
            },
            received_at: self.received_at.into(),
            first_byte: self.first_byte,
            duration,
        }
    }
}

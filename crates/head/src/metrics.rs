//! The series of a head: what they are called, what they count.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use vlinders_edge::{CpuTime, Metrics, UsageReport, buckets};

use crate::attempt::FailureKind;

/// All series of a head.
#[derive(Debug)]
pub struct HeadMetrics {
    registry: Arc<Metrics>,
    cpu_time: CpuTime,
    in_flight: Gauge,
    http_cpu: Gauge,
    body_bytes: Gauge,
}

/// The series of one model.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    /// By outcome.
    ended: [Counter; Outcome::ALL.len()],
    /// By reason.
    retried: [Counter; FailureKind::ALL.len()],
    pub(crate) first_byte: Histogram,
    pub(crate) whole: Histogram,
    pub(crate) routing: Histogram,
    tokens: [Counter; 3],
}

/// How a request ended, for the counter of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A whole answer, whatever its status.
    Finished,
    /// The client left.
    Aborted,
    /// The answer broke off, or no worker could give one.
    Failed,
}

const IN_FLIGHT: &str = "vlinders_requests_in_flight";
const QUEUE_DEPTH: &str = "vlinders_head_queue_depth";
const FIRST_BYTE: &str = "vlinders_head_time_to_first_byte_seconds";
const WHOLE: &str = "vlinders_head_request_seconds";
const ROUTING: &str = "vlinders_head_routing_seconds";
const REQUESTS: &str = "vlinders_head_requests_total";
const RETRIES: &str = "vlinders_head_retries_total";
const TOKENS: &str = "vlinders_head_tokens_total";
const WORKERS: &str = "vlinders_head_workers";
const BLOCKS: &str = "vlinders_head_prefix_blocks";
const HTTP_CPU: &str = "vlinders_http_cpu_seconds_total";
const BODY_BYTES: &str = "vlinders_request_body_bytes";

// === impl HeadMetrics ===

impl HeadMetrics {
    /// A registry with the series of a head.
    #[must_use]
    pub fn new() -> Self {
        let registry = Arc::new(Metrics::new(&[
            (FIRST_BYTE, buckets::FIRST_TOKEN),
            (WHOLE, buckets::REQUEST),
            (ROUTING, buckets::STEP),
            vlinders_ledger::DELIVERY_SECONDS,
        ]));
        registry.describe_gauge(IN_FLIGHT, "Requests that were let in and are not answered yet");
        registry.describe_gauge(QUEUE_DEPTH, "Requests that wait for a worker of the model");
        registry.describe_histogram(
            FIRST_BYTE,
            "Time from the arrival of a request to the first byte of its answer",
        );
        registry.describe_histogram(WHOLE, "Time from the arrival of a request to the end of its answer");
        registry.describe_histogram(ROUTING, "Time it took to choose a worker");
        registry
            .describe_counter(REQUESTS, "Requests by model and how they ended: finished, aborted or failed");
        registry.describe_counter(RETRIES, "Requests sent to a worker once more, by reason");
        registry
            .describe_counter(TOKENS, "Tokens as workers counted them: prompt, cached of those, completion");
        registry.describe_gauge(WORKERS, "Workers of the model by state: ready, or not");
        registry.describe_gauge(BLOCKS, "Beginnings of prompts that are remembered, in blocks of 256 bytes");
        registry.describe_gauge(HTTP_CPU, "Processor time of the threads that serve HTTP");
        registry.describe_gauge(BODY_BYTES, "Bytes of requests at hand");
        registry.gauge("vlinders_build_info", &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        let in_flight = registry.gauge(IN_FLIGHT, &[]);
        let http_cpu = registry.gauge(HTTP_CPU, &[]);
        let body_bytes = registry.gauge(BODY_BYTES, &[]);
        Self { registry, cpu_time: CpuTime::default(), in_flight, http_cpu, body_bytes }
    }

    /// The registry, for series of others.
    #[must_use]
    pub fn registry(&self) -> &Arc<Metrics> {
        &self.registry
    }

    /// Where the threads that serve HTTP tell what they take of the processor.
    #[must_use]
    pub fn cpu_time(&self) -> &CpuTime {
        &self.cpu_time
    }

    /// Requests that wait for a worker; there from the start, since autoscalers ask for it.
    pub(crate) fn queue_depth(&self, model: &str) -> Gauge {
        let gauge = self.registry.gauge(QUEUE_DEPTH, &[("model_name", model)]);
        gauge.set(0.0);
        gauge
    }

    /// All of them are there from the start: whoever watches for a first failure must have seen none before it.
    pub(crate) fn requests(&self, model: &str) -> RequestMetrics {
        let labels = &[("model_name", model)];
        let counter =
            |name, label, value| self.registry.counter(name, &[("model_name", model), (label, value)]);
        RequestMetrics {
            ended: Outcome::ALL.map(|outcome| counter(REQUESTS, "outcome", outcome.as_str())),
            retried: FailureKind::ALL.map(|reason| counter(RETRIES, "reason", reason.as_str())),
            first_byte: self.registry.histogram(FIRST_BYTE, labels),
            whole: self.registry.histogram(WHOLE, labels),
            routing: self.registry.histogram(ROUTING, labels),
            tokens: ["prompt", "cached", "completion"].map(|kind| counter(TOKENS, "kind", kind)),
        }
    }

    /// How a model is, right before it is rendered.
    pub(crate) fn show_model(&self, model: &str, ready: usize, all: usize, blocks: usize) {
        for (state, count) in [("ready", ready), ("not_ready", all - ready)] {
            self.registry.gauge(WORKERS, &[("model_name", model), ("state", state)]).set(count as f64);
        }
        self.registry.gauge(BLOCKS, &[("model_name", model)]).set(blocks as f64);
    }

    /// All series as text.
    pub(crate) fn render(&self, in_flight: usize, body_bytes: usize) -> String {
        self.in_flight.set(in_flight as f64);
        self.body_bytes.set(body_bytes as f64);
        self.http_cpu.set(self.cpu_time.total().as_secs_f64());
        self.registry.render()
    }
}

impl Default for HeadMetrics {
    fn default() -> Self {
        Self::new()
    }
}

// === impl RequestMetrics ===

impl RequestMetrics {
    /// A request is sent to another worker since the first one failed.
    pub(crate) fn retried(&self, reason: FailureKind) {
        for (counter, kind) in self.retried.iter().zip(FailureKind::ALL) {
            counter.increment(u64::from(kind == reason));
        }
    }

    /// A request has ended.
    pub(crate) fn ended(&self, outcome: Outcome, took: Duration, usage: Option<UsageReport>) {
        for (counter, kind) in self.ended.iter().zip(Outcome::ALL) {
            counter.increment(u64::from(kind == outcome));
        }
        self.whole.record(took.as_secs_f64());
        if let Some(usage) = usage {
            let counts = [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens];
            for (counter, count) in self.tokens.iter().zip(counts) {
                counter.increment(u64::from(count));
            }
        }
    }
}

// === impl Outcome ===

impl Outcome {
    const ALL: [Self; 3] = [Self::Finished, Self::Aborted, Self::Failed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

//! The series of this server: what they are called, what they count.
//!
//! Each is exported under our name and, so that dashboards and autoscalers written for vLLM work, under that one's.
//! Gauges and counters that mirror an engine are read from it when they are asked for, so they are exact at all times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metrics::{Counter, Gauge, Histogram};
use vlinders_api::{FinishReason, HistogramTotals};
use vlinders_edge::{CpuTime, Labels, Metrics, Tally, buckets};
use vlinders_engine::{EngineConfig, EngineState, Observer, Stats, StepStats};

/// All series of a server.
#[derive(Debug)]
pub struct ServerMetrics {
    registry: Arc<Metrics>,
    in_flight: Gauge,
    body_bytes: Gauge,
    http_cpu: Gauge,
    cpu_time: CpuTime,
}

/// The series of one model.
pub(crate) struct ModelMetrics {
    mirror: Mirror,
    pub(crate) first_token: Twin,
    pub(crate) between_tokens: Twin,
    pub(crate) per_output_token: Twin,
    pub(crate) end_to_end: Twin,
    pub(crate) queue: Twin,
    pub(crate) inference: Twin,
    pub(crate) prefill: Twin,
    pub(crate) decode: Twin,
    pub(crate) prompt_tokens: Twin,
    pub(crate) output_tokens: Twin,
    stop: Both,
    length: Both,
    tool_calls: Both,
    abort: Both,
    error: Both,
    pub(crate) ended: Ended,
}

/// How answers ended, for `GET /state`.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) finished: AtomicU64,
    pub(crate) aborted: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// A histogram under its two names.
pub(crate) struct Twin {
    histograms: [Histogram; 2],
    tally: Option<Tally>,
}

/// A counter under its two names.
struct Both([Counter; 2]);

/// How a request ended, for the counter of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished(FinishReason),
    /// The client left, or the deadline passed.
    Aborted,
    /// The engine failed.
    Failed,
}

/// What is copied from an engine.
struct Mirror {
    running: [Gauge; 2],
    waiting: [Gauge; 2],
    usage: [Gauge; 3],
    blocks: [Gauge; 3],
    up: Gauge,
    steps: Counter,
    prompt_tokens: [Counter; 2],
    generation_tokens: [Counter; 2],
    preemptions: [Counter; 2],
    prefix_queries: [Counter; 2],
    prefix_hits: [Counter; 2],
}

/// Records the steps of an engine, with the clock that the engine lacks.
struct StepObserver {
    tokens: Twin,
    sequences: Histogram,
    /// Time in the model.
    model: Histogram,
    /// Time of the loop around it: commands, planning, committing, telling.
    scheduling: Histogram,
    /// When the loop began to work for the step.
    begun: Instant,
    planned: Instant,
    executed: Instant,
}

/// Histograms: our name, vLLM's name, buckets, meaning.
const HISTOGRAMS: &[(&str, &str, &[f64], &str)] = &[
    (
        "vlinders_time_to_first_token_seconds",
        "vllm:time_to_first_token_seconds",
        buckets::FIRST_TOKEN,
        "Time from the arrival of a request to its first token",
    ),
    (
        "vlinders_inter_token_latency_seconds",
        "vllm:inter_token_latency_seconds",
        buckets::BETWEEN_TOKENS,
        "Time between two tokens of an answer",
    ),
    (
        "vlinders_request_time_per_output_token_seconds",
        "vllm:request_time_per_output_token_seconds",
        buckets::BETWEEN_TOKENS,
        "Mean time between the tokens of an answer",
    ),
    (
        "vlinders_e2e_request_latency_seconds",
        "vllm:e2e_request_latency_seconds",
        buckets::REQUEST,
        "Time from the arrival of a request to the end of its answer",
    ),
    (
        "vlinders_request_queue_time_seconds",
        "vllm:request_queue_time_seconds",
        buckets::REQUEST,
        "Time from the arrival of a request to its first step",
    ),
    (
        "vlinders_request_inference_time_seconds",
        "vllm:request_inference_time_seconds",
        buckets::REQUEST,
        "Time from the first step of a request to the end of its answer",
    ),
    (
        "vlinders_request_prefill_time_seconds",
        "vllm:request_prefill_time_seconds",
        buckets::REQUEST,
        "Time from the first step of a request to its first token",
    ),
    (
        "vlinders_request_decode_time_seconds",
        "vllm:request_decode_time_seconds",
        buckets::REQUEST,
        "Time from the first token of an answer to its last",
    ),
    ("vlinders_request_prompt_tokens", "vllm:request_prompt_tokens", buckets::TOKENS, "Tokens of prompts"),
    (
        "vlinders_request_generation_tokens",
        "vllm:request_generation_tokens",
        buckets::TOKENS,
        "Tokens of answers",
    ),
    (
        "vlinders_iteration_tokens_total",
        "vllm:iteration_tokens_total",
        buckets::STEP_TOKENS,
        "Tokens fed in a step of the engine",
    ),
];

const BODY_BYTES: &str = "vlinders_request_body_bytes";

const ENGINE_UP: &str = "vlinders_engine_up";

const LOAD_PROGRESS: &str = "vlinders_load_progress_ratio";

const LOAD_SECONDS: &str = "vlinders_load_seconds";

const HTTP_CPU: &str = "vlinders_http_cpu_seconds_total";

const STEP_SECONDS: &str = "vlinders_step_seconds";

const STEP_SEQUENCES: &str = "vlinders_step_sequences";

const REQUEST_SUCCESS: [&str; 2] = ["vlinders_request_success_total", "vllm:request_success_total"];

/// Gauges: our name, vLLM's, meaning.
const GAUGES: &[(&str, &str, &str)] = &[
    ("vlinders_num_requests_running", "vllm:num_requests_running", "Sequences that take part in steps"),
    ("vlinders_num_requests_waiting", "vllm:num_requests_waiting", "Sequences that wait for a place"),
    (
        "vlinders_kv_cache_usage_ratio",
        "vllm:kv_cache_usage_perc",
        "Share of KV blocks held by sequences, 0 to 1",
    ),
];

/// Counters: our name, vLLM's, meaning.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("vlinders_prompt_tokens_total", "vllm:prompt_tokens_total", "Prompt tokens prefilled"),
    ("vlinders_generation_tokens_total", "vllm:generation_tokens_total", "Tokens generated"),
    (
        "vlinders_num_preemptions_total",
        "vllm:num_preemptions_total",
        "Times a sequence lost its KV blocks to another",
    ),
    ("vlinders_prefix_cache_queries_total", "vllm:prefix_cache_queries_total", "Prompt tokens looked up"),
    (
        "vlinders_prefix_cache_hits_total",
        "vllm:prefix_cache_hits_total",
        "Prompt tokens found in the prefix cache",
    ),
];

// === impl ServerMetrics ===

impl ServerMetrics {
    /// A registry with the series of a server.
    #[must_use]
    pub fn new() -> Self {
        let mut histograms = vec![(STEP_SEQUENCES, buckets::STEP_TOKENS), (STEP_SECONDS, buckets::STEP)];
        for (ours, theirs, bounds, _) in HISTOGRAMS {
            histograms.extend([(*ours, *bounds), (*theirs, *bounds)]);
        }
        let registry = Metrics::new(&histograms);
        for (ours, theirs, _, help) in HISTOGRAMS {
            registry.describe_histogram(ours, help);
            registry.describe_histogram(theirs, help);
        }
        for (ours, theirs, help) in GAUGES {
            registry.describe_gauge(ours, help);
            registry.describe_gauge(theirs, help);
        }
        for (ours, theirs, help) in COUNTERS {
            registry.describe_counter(ours, help);
            registry.describe_counter(theirs, help);
        }
        for name in REQUEST_SUCCESS {
            registry
                .describe_counter(name, "Answers that ended, by reason; abort and error are no successes");
        }
        registry.describe_histogram(STEP_SEQUENCES, "Sequences in a step of the engine");
        registry.describe_histogram(
            STEP_SECONDS,
            "Time of a step by part: in the model, and scheduling around it",
        );
        registry.describe_gauge(HTTP_CPU, "Processor time of the threads that serve HTTP");
        let http_cpu = registry.gauge(HTTP_CPU, &[]);
        registry.describe_gauge(
            "vlinders_requests_in_flight",
            "Requests that were let in and are not answered yet",
        );
        registry
            .describe_gauge(ENGINE_UP, "1 while the model takes steps, 0 while it is loaded or has failed");
        registry.describe_gauge(LOAD_PROGRESS, "Share of the weights that is in place, 0 to 1");
        registry.describe_gauge(LOAD_SECONDS, "Time that loading took, by phase");
        let in_flight = registry.gauge("vlinders_requests_in_flight", &[]);
        registry.describe_gauge(BODY_BYTES, "Bytes of requests that are being read or not yet encoded");
        let body_bytes = registry.gauge(BODY_BYTES, &[]);
        let version: Labels<'_> = &[("version", env!("CARGO_PKG_VERSION"))];
        registry.gauge("vlinders_build_info", version).set(1.0);
        let cpu_time = CpuTime::default();
        Self { registry: Arc::new(registry), in_flight, body_bytes, http_cpu, cpu_time }
    }

    /// How far the load of the model `name` is, 0 to 1. Until its engine runs, `vlinders_engine_up` is 0.
    pub(crate) fn load_progress(&self, name: &str) -> Gauge {
        let labels = &labels(name);
        self.registry.gauge(ENGINE_UP, labels).set(0.0);
        let progress = self.registry.gauge(LOAD_PROGRESS, labels);
        progress.set(0.0);
        progress
    }

    /// How long a phase of the load took.
    pub(crate) fn load_seconds(&self, name: &str, phase: &str) -> Gauge {
        self.registry.gauge(LOAD_SECONDS, &[("model_name", name), ("phase", phase)])
    }

    /// What the engine of the model `name` is to be started with.
    pub(crate) fn observer(&self, name: &str) -> Box<dyn Observer> {
        let labels = &labels(name);
        let [model, engine] = *labels;
        let part = |name| self.registry.histogram(STEP_SECONDS, &[model, engine, ("part", name)]);
        let now = Instant::now();
        Box::new(StepObserver {
            tokens: Twin::new(twin(&self.registry, "vlinders_iteration_tokens_total", labels)),
            sequences: self.registry.histogram(STEP_SEQUENCES, labels),
            model: part("model"),
            scheduling: part("scheduling"),
            begun: now,
            planned: now,
            executed: now,
        })
    }

    /// Where the threads that serve HTTP tell what they take of the processor.
    #[must_use]
    pub fn cpu_time(&self) -> &CpuTime {
        &self.cpu_time
    }

    /// The registry, for series of others.
    #[must_use]
    pub fn registry(&self) -> &Arc<Metrics> {
        &self.registry
    }

    pub(crate) fn model(&self, name: &str, config: &EngineConfig) -> Arc<ModelMetrics> {
        Arc::new(ModelMetrics::new(&self.registry, name, config))
    }

    /// All series as text, with the engines as they are now.
    pub(crate) fn render<'a>(
        &self,
        in_flight: usize,
        body_bytes: usize,
        models: impl Iterator<Item = (&'a ModelMetrics, Stats)>,
    ) -> String {
        self.in_flight.set(in_flight as f64);
        self.body_bytes.set(body_bytes as f64);
        self.http_cpu.set(self.cpu_time.total().as_secs_f64());
        for (metrics, stats) in models {
            metrics.mirror.update(&stats);
        }
        self.registry.render()
    }
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

// === impl ModelMetrics ===

impl ModelMetrics {
    fn new(registry: &Metrics, name: &str, config: &EngineConfig) -> Self {
        let labels = &labels(name);
        let twin = |ours| Twin::new(twin(registry, ours, labels));
        let ended = |reason: &str| {
            let [model, engine] = *labels;
            let labels: Labels<'_> = &[model, engine, ("finished_reason", reason)];
            Both(REQUEST_SUCCESS.map(|name| registry.counter(name, labels)))
        };
        let blocks = config.num_blocks.to_string();
        let block_size = config.block_size.to_string();
        let [model, engine] = *labels;
        for name in ["vllm:cache_config_info", "vlinders_cache_config_info"] {
            let labels: Labels<'_> =
                &[model, engine, ("block_size", &block_size), ("num_gpu_blocks", &blocks)];
            registry.gauge(name, labels).set(1.0);
        }
        // Nothing sleeps here, and a dashboard that asks is told so.
        for (state, value) in [("awake", 1.0), ("weights_offloaded", 0.0), ("discard_all", 0.0)] {
            let labels: Labels<'_> = &[model, engine, ("sleep_state", state)];
            registry.gauge("vllm:engine_sleep_state", labels).set(value);
        }
        Self {
            mirror: Mirror::new(registry, labels),
            first_token: twin("vlinders_time_to_first_token_seconds").tallied(buckets::FIRST_TOKEN),
            between_tokens: twin("vlinders_inter_token_latency_seconds").tallied(buckets::BETWEEN_TOKENS),
            per_output_token: twin("vlinders_request_time_per_output_token_seconds"),
            end_to_end: twin("vlinders_e2e_request_latency_seconds"),
            queue: twin("vlinders_request_queue_time_seconds"),
            inference: twin("vlinders_request_inference_time_seconds"),
            prefill: twin("vlinders_request_prefill_time_seconds"),
            decode: twin("vlinders_request_decode_time_seconds"),
            prompt_tokens: twin("vlinders_request_prompt_tokens"),
            output_tokens: twin("vlinders_request_generation_tokens"),
            stop: ended("stop"),
            length: ended("length"),
            tool_calls: ended("tool_calls"),
            abort: ended("abort"),
            error: ended("error"),
            ended: Ended::default(),
        }
    }

    /// Count the end of an answer.
    pub(crate) fn count(&self, outcome: Outcome) {
        let ended = match outcome {
            Outcome::Finished(_) => &self.ended.finished,
            Outcome::Aborted => &self.ended.aborted,
            Outcome::Failed => &self.ended.failed,
        };
        ended.fetch_add(1, Ordering::Relaxed);
        let counters = match outcome {
            Outcome::Finished(FinishReason::Stop) => &self.stop,
            Outcome::Finished(FinishReason::Length) => &self.length,
            Outcome::Finished(FinishReason::ToolCalls) => &self.tool_calls,
            Outcome::Aborted => &self.abort,
            Outcome::Failed => &self.error,
        };
        for counter in &counters.0 {
            counter.increment(1);
        }
    }
}

impl std::fmt::Debug for ModelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ModelMetrics")
    }
}

// === impl Twin ===

impl Twin {
    fn new(histograms: [Histogram; 2]) -> Self {
        Self { histograms, tally: None }
    }

    /// With counts that can be read, too.
    fn tallied(self, bounds: &'static [f64]) -> Self {
        Self { tally: Some(Tally::new(bounds)), ..self }
    }

    pub(crate) fn record(&self, value: f64) {
        for histogram in &self.histograms {
            histogram.record(value);
        }
        if let Some(tally) = &self.tally {
            tally.record(value);
        }
    }

    /// The counts so far; empty if they are not kept.
    pub(crate) fn totals(&self) -> HistogramTotals {
        self.tally.as_ref().map_or_else(HistogramTotals::default, |tally| HistogramTotals {
            bounds: tally.bounds().to_vec(),
            counts: tally.counts(),
        })
    }
}

// === impl Mirror ===

impl Mirror {
    fn new(registry: &Metrics, labels: &[(&'static str, &str); 2]) -> Self {
        let gauges = |ours: &'static str| {
            let theirs = GAUGES.iter().find(|row| row.0 == ours).map_or(ours, |row| row.1);
            [ours, theirs].map(|name| registry.gauge(name, labels))
        };
        let counters = |ours: &'static str| {
            let theirs = COUNTERS.iter().find(|row| row.0 == ours).map_or(ours, |row| row.1);
            [ours, theirs].map(|name| registry.counter(name, labels))
        };
        let [ours, theirs] = gauges("vlinders_kv_cache_usage_ratio");
        let [model, engine] = *labels;
        Self {
            running: gauges("vlinders_num_requests_running"),
            waiting: gauges("vlinders_num_requests_waiting"),
            usage: [ours, theirs, registry.gauge("vllm:gpu_cache_usage_perc", labels)],
            blocks: ["total", "used", "cached"]
                .map(|kind| registry.gauge("vlinders_kv_blocks", &[model, engine, ("kind", kind)])),
            up: registry.gauge(ENGINE_UP, labels),
            steps: registry.counter("vlinders_engine_steps_total", labels),
            prompt_tokens: counters("vlinders_prompt_tokens_total"),
            generation_tokens: counters("vlinders_generation_tokens_total"),
            preemptions: counters("vlinders_num_preemptions_total"),
            prefix_queries: counters("vlinders_prefix_cache_queries_total"),
            prefix_hits: counters("vlinders_prefix_cache_hits_total"),
        }
    }

    fn update(&self, stats: &Stats) {
        let set = |gauges: &[Gauge], value: f64| gauges.iter().for_each(|gauge| gauge.set(value));
        let count =
            |counters: &[Counter], value: u64| counters.iter().for_each(|counter| counter.absolute(value));
        set(&self.running, stats.running as f64);
        set(&self.waiting, stats.waiting as f64);
        set(&self.usage, stats.blocks_used as f64 / stats.blocks_total.max(1) as f64);
        for (gauge, blocks) in
            self.blocks.iter().zip([stats.blocks_total, stats.blocks_used, stats.blocks_cached])
        {
            gauge.set(blocks as f64);
        }
        self.up.set(f64::from(u8::from(matches!(stats.state, EngineState::Running | EngineState::Draining))));
        self.steps.absolute(stats.steps);
        count(&self.prompt_tokens, stats.prompt_tokens);
        count(&self.generation_tokens, stats.generation_tokens);
        count(&self.preemptions, stats.preemptions);
        count(&self.prefix_queries, stats.prefix_query_tokens);
        count(&self.prefix_hits, stats.prefix_hit_tokens);
    }
}

// === impl StepObserver ===

impl Observer for StepObserver {
    fn resumed(&mut self) {
        self.begun = Instant::now();
    }

    fn step_planned(&mut self, _step: &StepStats) {
        self.planned = Instant::now();
    }

    fn step_executed(&mut self) {
        self.executed = Instant::now();
    }

    fn step(&mut self, step: &StepStats) {
        let now = Instant::now();
        let around = (self.planned - self.begun) + (now - self.executed);
        self.model.record((self.executed - self.planned).as_secs_f64());
        self.scheduling.record(around.as_secs_f64());
        self.begun = now;
        self.tokens.record((step.prefill_tokens + step.decode_tokens) as f64);
        self.sequences.record(step.sequences as f64);
    }
}

/// The labels of every series of a model. A process has one engine for each model.
fn labels(name: &str) -> [(&'static str, &str); 2] {
    [("model_name", name), ("engine", "0")]
}

fn twin(registry: &Metrics, ours: &'static str, labels: Labels<'_>) -> [Histogram; 2] {
    let theirs = HISTOGRAMS.iter().find(|row| row.0 == ours).map_or(ours, |row| row.1);
    [ours, theirs].map(|name| registry.histogram(name, labels))
}

//! The registry of metrics of one server and its text form for Prometheus.
//!
//! A registry is a value, not a global: several servers in one process, as in tests, do not mix.

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Labels of a series.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Content type of [`Metrics::render`].
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where series are registered and rendered.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// Upper bounds of histogram buckets.
pub mod buckets {
    /// Seconds to the first token.
    pub const FIRST_TOKEN: &[f64] = &[
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
        40.0, 80.0, 160.0, 640.0, 2560.0,
    ];
    /// Seconds between tokens.
    pub const BETWEEN_TOKENS: &[f64] = &[
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0,
        7.5, 10.0, 20.0, 40.0, 80.0,
    ];
    /// Seconds a request or a part of it takes.
    pub const REQUEST: &[f64] = &[
        0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0,
        120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0,
    ];
    /// Seconds of a part of a step: from what a scheduler takes to what a large prompt takes.
    pub const STEP: &[f64] = &[
        0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
        0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    /// Tokens of a request.
    pub const TOKENS: &[f64] = &[
        1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0,
        50_000.0, 100_000.0,
    ];
    /// Tokens of a step.
    pub const STEP_TOKENS: &[f64] =
        &[1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0];
    /// Small numbers.
    pub const COUNT: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];
}

const METADATA: Metadata<'static> = Metadata::new("vlinders", Level::INFO, None);

// === impl Metrics ===

impl Metrics {
    /// A registry with the given histograms, each with its buckets. A histogram that is not listed would be rendered
    /// as a summary, in which no `_bucket` query finds anything.
    #[must_use]
    pub fn new(histograms: &[(&'static str, &'static [f64])]) -> Self {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in histograms {
            builder = builder
                .set_buckets_for_metric(Matcher::Full((*name).to_owned()), buckets)
                .expect("bucket lists are constants that are not empty");
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// Say what a series means.
    pub fn describe_counter(&self, name: &'static str, help: &'static str) {
        self.recorder.describe_counter(name.into(), None, help.into());
    }

    /// Say what a series means.
    pub fn describe_gauge(&self, name: &'static str, help: &'static str) {
        self.recorder.describe_gauge(name.into(), None, help.into());
    }

    /// Say what a series means.
    pub fn describe_histogram(&self, name: &'static str, help: &'static str) {
        self.recorder.describe_histogram(name.into(), None, help.into());
    }

    /// A counter; the same name and labels give the same counter.
    pub fn counter(&self, name: &'static str, labels: Labels<'_>) -> Counter {
        self.recorder.register_counter(&key(name, labels), &METADATA)
    }

    /// A gauge.
    pub fn gauge(&self, name: &'static str, labels: Labels<'_>) -> Gauge {
        self.recorder.register_gauge(&key(name, labels), &METADATA)
    }

    /// A histogram.
    pub fn histogram(&self, name: &'static str, labels: Labels<'_>) -> Histogram {
        self.recorder.register_histogram(&key(name, labels), &METADATA)
    }

    /// All series as text. A gauge whose name ends in `_total` is one that only rises, in fractions that the counters
    /// of the recorder do not have: it is rendered as a counter.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render().replace("_total gauge\n", "_total counter\n")
    }

    /// Sort recorded values into buckets. To be called every few seconds, since until then each value is kept.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

fn key(name: &'static str, labels: Labels<'_>) -> Key {
    Key::from_parts(
        name,
        labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_have_buckets_and_colons_survive() {
        let metrics = Metrics::new(&[("vllm:e2e_request_latency_seconds", &[0.5, 1.0])]);
        let labels: Labels<'_> = &[("model_name", "a\"b")];
        let histogram = metrics.histogram("vllm:e2e_request_latency_seconds", labels);
        histogram.record(0.7);
        histogram.record(3.0);
        metrics.run_upkeep();
        metrics.counter("vllm:prompt_tokens_total", labels).absolute(7);
        metrics.gauge("vllm:num_requests_running", labels).set(2.0);
        let text = metrics.render();
        for line in [
            "# TYPE vllm:e2e_request_latency_seconds histogram",
            r#"vllm:e2e_request_latency_seconds_bucket{model_name="a\"b",le="0.5"} 0"#,
            r#"vllm:e2e_request_latency_seconds_bucket{model_name="a\"b",le="1"} 1"#,
            r#"vllm:e2e_request_latency_seconds_bucket{model_name="a\"b",le="+Inf"} 2"#,
            r#"vllm:e2e_request_latency_seconds_count{model_name="a\"b"} 2"#,
            r#"vllm:prompt_tokens_total{model_name="a\"b"} 7"#,
            r#"vllm:num_requests_running{model_name="a\"b"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_sum_of_fractions_is_a_counter() {
        let metrics = Metrics::new(&[]);
        metrics.gauge("busy_seconds_total", &[]).set(1.25);
        metrics.gauge("total_gauge", &[]).set(2.0);
        let text = metrics.render();
        for line in
            ["# TYPE busy_seconds_total counter", "busy_seconds_total 1.25", "# TYPE total_gauge gauge"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn registries_do_not_mix() {
        let (first, second) = (Metrics::new(&[]), Metrics::new(&[]));
        first.counter("a_total", &[]).increment(1);
        assert!(first.render().contains("a_total 1"));
        assert!(!second.render().contains("a_total"));
    }
}

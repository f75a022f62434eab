//! What a run says: figures for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::load::Measured;
use super::send::Record;
use super::stats::Summary;
use crate::args::BenchArgs;
use crate::config::format_count;

/// The figures of one run.
#[derive(Debug)]
pub(super) struct Report {
    url: String,
    model: String,
    seed: u64,
    ended: chrono::DateTime<chrono::Utc>,
    measured: Measured,
    errors: BTreeMap<String, (usize, String)>,
    ttft: Vec<f64>,
    inter_token: Vec<f64>,
    per_output_token: Vec<f64>,
    e2e: Vec<f64>,
}

/// Totals over the time of the run.
#[derive(Debug, Clone, Copy, serde::Serialize)]
struct Throughput {
    requests_per_second: f64,
    input_tokens_per_second: f64,
    output_tokens_per_second: f64,
    total_tokens_per_second: f64,
}

impl Report {
    pub(super) fn new(url: &str, model: &str, seed: u64, measured: Measured) -> Self {
        let mut errors = BTreeMap::new();
        for record in &measured.records {
            if let (Some(kind), Some(error)) = (&record.error_kind, &record.error) {
                errors.entry(kind.clone()).or_insert_with(|| (0, error.clone())).0 += 1;
            }
        }
        let ok = || measured.records.iter().filter(|record| record.error.is_none());
        Self {
            url: url.to_owned(),
            model: model.to_owned(),
            seed,
            ended: chrono::Utc::now(),
            errors,
            ttft: ok().filter_map(|record| record.ttft).collect(),
            inter_token: ok().flat_map(inter_token).collect(),
            per_output_token: ok().filter_map(per_output_token).collect(),
            e2e: ok().filter_map(|record| record.e2e).collect(),
            measured,
        }
    }

    pub(super) fn num_ok(&self) -> usize {
        self.ok().count()
    }

    pub(super) fn ok(&self) -> impl Iterator<Item = &Record> {
        self.measured.records.iter().filter(|record| record.error.is_none())
    }

    /// Length of the run in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.measured.seconds
    }

    pub(super) fn title(&self) -> String {
        format!("{} at {}, seed {}", self.model, self.url, self.seed)
    }

    /// Times to first token, in seconds.
    pub(super) fn ttft(&self) -> &[f64] {
        &self.ttft
    }

    /// Times between pieces of text, in seconds.
    pub(super) fn inter_token(&self) -> &[f64] {
        &self.inter_token
    }

    fn total(&self, tokens: impl Fn(&Record) -> u64) -> u64 {
        self.ok().map(tokens).sum()
    }

    fn throughput(&self) -> Throughput {
        let rate = |count: u64| count as f64 / self.seconds().max(1e-9);
        let (input, output) =
            (self.total(|record| record.prompt_tokens), self.total(|record| record.output_tokens));
        Throughput {
            requests_per_second: rate(self.num_ok() as u64),
            input_tokens_per_second: rate(input),
            output_tokens_per_second: rate(output),
            total_tokens_per_second: rate(input + output),
        }
    }

    fn latencies(&self) -> [(&'static str, &'static str, Option<Summary>); 4] {
        let summary = |samples: &[f64]| Summary::of(samples.iter().copied());
        [
            ("time to first token", "ttft_seconds", summary(&self.ttft)),
            ("inter-token latency", "inter_token_seconds", summary(&self.inter_token)),
            ("time per output token", "per_output_token_seconds", summary(&self.per_output_token)),
            ("end-to-end latency", "e2e_seconds", summary(&self.e2e)),
        ]
    }

    /// Everything, with the settings that led to it.
    pub(super) fn to_json(&self, args: &BenchArgs) -> Value {
        let latencies: serde_json::Map<String, Value> =
            self.latencies().into_iter().map(|(_, key, summary)| (key.to_owned(), json!(summary))).collect();
        let errors: serde_json::Map<String, Value> = self
            .errors
            .iter()
            .map(|(kind, (count, first))| (kind.clone(), json!({"count": count, "first": first})))
            .collect();
        json!({
            "vlinders_version": env!("CARGO_PKG_VERSION"),
            "ended": self.ended.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "url": self.url,
            "model": self.model,
            "settings": {
                "api": args.api,
                "concurrency": args.concurrency,
                "rate": args.rate,
                "num_requests": args.num_requests,
                "duration_seconds": args.duration.map(|duration| duration.as_secs_f64()),
                "warmup": args.warmup,
                "input_len": args.input_len,
                "output_len": args.output_len,
                "shared_prefix": args.shared_prefix,
                "ignore_eos": !args.honour_eos,
                "temperature": args.temperature,
                "seed": self.seed,
            },
            "interrupted": self.measured.interrupted,
            "seconds": self.seconds(),
            "requests_ok": self.num_ok(),
            "requests_failed": self.measured.records.len() - self.num_ok(),
            "errors": errors,
            "prompt_tokens": self.total(|record| record.prompt_tokens),
            "cached_tokens": self.total(|record| record.cached_tokens),
            "output_tokens": self.total(|record| record.output_tokens),
            "throughput": self.throughput(),
            "latency": latencies,
            "requests": self.measured.records,
        })
    }
}

/// Gaps between the pieces of text of one answer.
fn inter_token(record: &Record) -> impl Iterator<Item = f64> {
    record.pieces.windows(2).map(|pair| pair[1] - pair[0])
}

/// Mean time of an output token after the first.
fn per_output_token(record: &Record) -> Option<f64> {
    let decoding = record.e2e? - record.ttft?;
    (record.output_tokens > 1).then(|| decoding / (record.output_tokens - 1) as f64)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.measured.records.len() - self.num_ok();
        writeln!(f, "{}", self.title())?;
        if self.measured.interrupted {
            writeln!(f, "interrupted: requests then in flight are left out")?;
        }
        let (input, cached) =
            (self.total(|record| record.prompt_tokens), self.total(|record| record.cached_tokens));
        let throughput = self.throughput();
        let count = |number: usize| format_count(number as u64);
        writeln!(f)?;
        writeln!(f, "requests               {:>12} ok, {} failed", count(self.num_ok()), count(failed))?;
        writeln!(f, "duration               {:>12.2} s", self.seconds())?;
        writeln!(f, "requests per second    {:>12.2}", throughput.requests_per_second)?;
        writeln!(
            f,
            "input tokens           {:>12} ({} from cache)",
            format_count(input),
            format_count(cached)
        )?;
        writeln!(
            f,
            "output tokens          {:>12}",
            format_count(self.total(|record| record.output_tokens))
        )?;
        writeln!(f, "input tokens per s     {:>12.1}", throughput.input_tokens_per_second)?;
        writeln!(f, "output tokens per s    {:>12.1}", throughput.output_tokens_per_second)?;
        if self.num_ok() > 0 {
            writeln!(f)?;
            write!(f, "{:22}", "milliseconds")?;
            for column in ["mean", "p50", "p90", "p95", "p99", "max"] {
                write!(f, " {column:>10}")?;
            }
            writeln!(f)?;
        }
        for (label, _, summary) in self.latencies() {
            let Some(s) = summary else { continue };
            write!(f, "{label:22}")?;
            for value in [s.mean, s.p50, s.p90, s.p95, s.p99, s.max] {
                write!(f, " {:>10.2}", value * 1e3)?;
            }
            writeln!(f)?;
        }
        if !self.errors.is_empty() {
            writeln!(f, "\nerrors")?;
            for (kind, (count, first)) in &self.errors {
                writeln!(f, "  {count:>6} × {kind}: {first}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let ok = |idx: u64, ttft: f64| Record {
            idx,
            due: idx as f64,
            sent: idx as f64,
            ttft: Some(ttft),
            e2e: Some(ttft + 0.3),
            prompt_tokens: 100,
            cached_tokens: 32,
            output_tokens: 4,
            pieces: (0..4).map(|piece| idx as f64 + ttft + 0.1 * f64::from(piece)).collect(),
            ..Record::default()
        };
        let failed = Record {
            idx: 2,
            error: Some("the server says 429: busy".to_owned()),
            error_kind: Some("http 429".to_owned()),
            ..Record::default()
        };
        Measured { records: vec![ok(0, 0.5), ok(1, 1.5), failed], seconds: 4.0, interrupted: false }
    }

    #[test]
    fn the_table() {
        let report = Report::new("http://127.0.0.1:8000", "demo", 7, measured());
        insta::assert_snapshot!(report.to_string());
    }

    #[test]
    fn failed_requests_count_as_errors_and_nowhere_else() {
        let report = Report::new("http://127.0.0.1:8000", "demo", 7, measured());
        assert_eq!(report.num_ok(), 2);
        assert_eq!(report.errors["http 429"].0, 1);
        assert_eq!(report.ttft(), [0.5, 1.5]);
        assert!(report.per_output_token.iter().all(|time| (time - 0.1).abs() < 1e-9));
        assert_eq!(report.inter_token().len(), 6);
        let throughput = report.throughput();
        assert_eq!((throughput.requests_per_second, throughput.output_tokens_per_second), (0.5, 2.0));
    }
}

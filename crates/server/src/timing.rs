//! When things happened in the life of one answer, and what the metrics hear of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use vlinders_api::FinishReason;
use vlinders_edge::{Running, Trace};

use crate::metrics::{ModelMetrics, Outcome};

/// Times one answer. Dropped before its end, it counts as aborted.
#[derive(Debug)]
pub(crate) struct Timer {
    metrics: Arc<ModelMetrics>,
    arrival: Instant,
    scheduled: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    prompt_tokens: usize,
    ended: bool,
    trace: Trace,
    /// The request in the list of those that run.
    running: Arc<Running>,
}

// === impl Timer ===

impl Timer {
    /// For an answer to a request that arrived at `arrival`.
    pub(crate) fn new(
        metrics: Arc<ModelMetrics>,
        arrival: Instant,
        prompt_tokens: usize,
        trace: Trace,
        running: Arc<Running>,
    ) -> Self {
        Self {
            metrics,
            arrival,
            scheduled: None,
            first_token: None,
            last_token: None,
            prompt_tokens,
            ended: false,
            trace,
            running,
        }
    }

    /// The answer takes part in steps.
    pub(crate) fn scheduled(&mut self) {
        let now = Instant::now();
        self.scheduled = Some(now);
        self.running.computes();
        self.metrics.queue.record((now - self.arrival).as_secs_f64());
    }

    /// A token has come.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        self.running.token();
        match self.last_token.replace(now) {
            Some(last) => self.metrics.between_tokens.record((now - last).as_secs_f64()),
            None => {
                self.first_token = Some(now);
                self.metrics.first_token.record((now - self.arrival).as_secs_f64());
                if let Some(scheduled) = self.scheduled {
                    self.metrics.prefill.record((now - scheduled).as_secs_f64());
                }
            }
        }
    }

    /// The answer is complete.
    pub(crate) fn finished(&mut self, reason: FinishReason, num_tokens: usize) {
        let now = Instant::now();
        self.end(Outcome::Finished(reason));
        let metrics = &self.metrics;
        metrics.end_to_end.record((now - self.arrival).as_secs_f64());
        metrics.prompt_tokens.record(self.prompt_tokens as f64);
        metrics.output_tokens.record(num_tokens as f64);
        if let Some(scheduled) = self.scheduled {
            metrics.inference.record((now - scheduled).as_secs_f64());
        }
        if let (Some(first), Some(last)) = (self.first_token, self.last_token) {
            let decode = (last - first).as_secs_f64();
            metrics.decode.record(decode);
            if num_tokens > 1 {
                metrics.per_output_token.record(decode / (num_tokens - 1) as f64);
            }
        }
    }

    /// The engine failed.
    pub(crate) fn failed(&mut self) {
        self.end(Outcome::Failed);
    }

    /// The stages are known when they are over.
    fn tell_trace(&self) {
        let (now, clock) = (Instant::now(), SystemTime::now());
        let at = |instant: Instant| clock.checked_sub(now - instant).unwrap_or(clock);
        let stages = [
            ("queue", Some(self.arrival), self.scheduled),
            ("prefill", self.scheduled, self.first_token),
            ("decode", self.first_token, self.last_token),
        ];
        for (name, begun, ended) in stages {
            if let Some(begun) = begun {
                self.trace.past(name, at(begun), at(ended.unwrap_or(now)));
            }
        }
    }

    fn end(&mut self, outcome: Outcome) {
        if !self.ended {
            self.ended = true;
            self.metrics.count(outcome);
            self.tell_trace();
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.end(Outcome::Aborted);
    }
}

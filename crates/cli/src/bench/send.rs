//! Sends one request and takes its times.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::prompt::{Prompt, Prompts};
use crate::args::{ApiKind, BenchArgs};
use crate::client::{Client, ClientError, StreamEvent, Usage, follow};

/// Sends the requests of a run.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    model: String,
    api: ApiKind,
    timeout: Duration,
    temperature: f64,
    ignore_eos: bool,
    prompts: Prompts,
}

/// What was measured of one request. Times are in seconds; offsets count from the start of the run.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Record {
    pub(super) idx: u64,
    /// When it was due: all latencies count from here.
    pub(super) due: f64,
    /// When it was sent.
    pub(super) sent: f64,
    /// To the first text.
    pub(super) ttft: Option<f64>,
    /// To the end of the answer.
    pub(super) e2e: Option<f64>,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
    pub(super) finish_reason: Option<String>,
    /// Offsets of the pieces of text.
    #[serde(skip)]
    pub(super) pieces: Vec<f64>,
    pub(super) error: Option<String>,
    pub(super) error_kind: Option<String>,
}

impl Sender {
    pub(super) fn new(client: Client, model: String, args: &BenchArgs, prompts: Prompts) -> Self {
        Self {
            client,
            model,
            api: args.api,
            timeout: args.timeout,
            temperature: args.temperature,
            ignore_eos: !args.honour_eos,
            prompts,
        }
    }

    /// Send request `idx`, which was due at `due`, in a run that began at `start`.
    pub(super) async fn send(&self, idx: u64, start: Instant, due: Instant) -> Record {
        let prompt = self.prompts.get(idx);
        let body = self.body(&prompt);
        let mut record = Record {
            idx,
            due: due.saturating_duration_since(start).as_secs_f64(),
            sent: start.elapsed().as_secs_f64(),
            ..Record::default()
        };
        let outcome = tokio::time::timeout(self.timeout, self.follow(body, start, &mut record)).await;
        match outcome.unwrap_or(Err(ClientError::Timeout)) {
            Ok(()) => {
                let end = start.elapsed().as_secs_f64();
                record.e2e = Some(end - record.due);
                record.ttft = Some(record.pieces.first().copied().unwrap_or(end) - record.due);
            }
            Err(error) => {
                record.error_kind = Some(error.kind());
                record.error = Some(error.to_string());
            }
        }
        record
    }

    async fn follow(&self, body: Vec<u8>, start: Instant, record: &mut Record) -> Result<(), ClientError> {
        let path = match self.api {
            ApiKind::Completions => "/v1/completions",
            ApiKind::Chat => "/v1/chat/completions",
        };
        let response = self.client.post_stream(path, body).await?;
        let mut counted = None;
        follow(response, |event| {
            let StreamEvent::Chunk { text, finish_reason, usage } = event else { return };
            if !text.is_empty() {
                record.pieces.push(start.elapsed().as_secs_f64());
            }
            record.finish_reason = finish_reason.or(record.finish_reason.take());
            counted = usage.or(counted);
        })
        .await?;
        // A server that sends no usage gets one token for each piece of text.
        let usage =
            counted.unwrap_or(Usage { completion_tokens: record.pieces.len() as u64, ..Usage::default() });
        record.prompt_tokens = usage.prompt_tokens;
        record.output_tokens = usage.completion_tokens;
        record.cached_tokens =
            usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
        Ok(())
    }

    fn body(&self, prompt: &Prompt) -> Vec<u8> {
        let mut body = json!({
            "model": self.model,
            "max_tokens": prompt.max_tokens,
            "temperature": self.temperature,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        match self.api {
            ApiKind::Completions => body["prompt"] = json!(prompt.text),
            ApiKind::Chat => body["messages"] = json!([{"role": "user", "content": prompt.text}]),
        }
        if self.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        body.to_string().into_bytes()
    }
}

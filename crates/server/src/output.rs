//! How a generation leaves the server: whole, or as a stream of chunks.

use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use vlinders_api::{Sampling, StreamOptions, Usage};
use vlinders_edge::{
    ApiError, Permit, Progress, SseBody, SseOptions, SseSource, SseWriter, UsageReport, sse_response,
};

use crate::choice::Delta;
use crate::config::ServerConfig;
use crate::generation::Generation;

/// The form of the answers of one route.
pub(crate) trait Output: Send + Unpin + 'static {
    /// Write the chunks of a delta.
    fn chunk(&mut self, index: usize, delta: &Delta, usage: Option<Option<Usage>>, out: &mut SseWriter);

    /// Write the chunk that holds the token counts.
    fn usage_chunk(&mut self, usage: Usage, out: &mut SseWriter);

    /// Collect a delta for [`Self::whole`].
    fn collect(&mut self, index: usize, delta: Delta);

    /// The whole answer as JSON.
    fn whole(self, usage: Usage) -> Result<Vec<u8>, serde_json::Error>;
}

/// How and until when to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    /// `Some` asks for a stream.
    pub(crate) stream: Option<StreamOptions>,
    pub(crate) arrival: Instant,
    pub(crate) timeout: Duration,
    pub(crate) keep_alive: Duration,
    /// Tell the head the token counts: in comments of a stream, in a header of a whole answer.
    pub(crate) tell_usage: bool,
}

/// A generation as a source of events.
struct Chunks<O> {
    generation: Generation,
    output: O,
    options: StreamOptions,
    timeout: Duration,
    tell_usage: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ended,
}

/// Answer with a generation.
///
/// # Errors
/// The engine failed or the deadline passed, before a whole answer was there.
pub(crate) async fn deliver<O: Output>(
    generation: Generation,
    output: O,
    permit: Permit,
    delivery: Delivery,
) -> Result<Response, ApiError> {
    let deadline = tokio::time::Instant::from_std(delivery.arrival + delivery.timeout);
    if let Some(options) = delivery.stream {
        let Delivery { timeout, tell_usage, .. } = delivery;
        let chunks = Chunks { generation, output, options, timeout, tell_usage, state: State::Running };
        let options = SseOptions { keep_alive: delivery.keep_alive, deadline: Some(deadline) };
        return Ok(sse_response(SseBody::new(chunks, permit, options)));
    }
    // The future is dropped when the client leaves, and with it the generation and the permit.
    let whole = tokio::time::timeout_at(deadline, collect(generation, output)).await;
    let (body, usage) = whole.map_err(|_| ApiError::deadline_exceeded(delivery.timeout))??;
    drop(permit);
    let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = (json, body).into_response();
    if delivery.tell_usage {
        UsageReport::from(usage).write(response.headers_mut());
    }
    Ok(response)
}

async fn collect<O: Output>(mut generation: Generation, mut output: O) -> Result<(Vec<u8>, Usage), ApiError> {
    while let Some((index, delta)) = generation.next().await {
        output.collect(index, delta?);
    }
    let usage = generation.usage();
    let body = output.whole(usage).map_err(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        ApiError::internal("the answer could not be written")
    })?;
    Ok((body, usage))
}

// === impl Delivery ===

impl Delivery {
    pub(crate) fn new(asked: &Sampling, arrival: Instant, tell_usage: bool, config: &ServerConfig) -> Self {
        let stream = asked.stream.unwrap_or(false).then(|| asked.stream_options.unwrap_or_default());
        let ServerConfig { request_timeout: timeout, keep_alive, .. } = *config;
        Self { stream, arrival, timeout, keep_alive, tell_usage }
    }
}

// === impl Chunks ===

impl<O: Output> SseSource for Chunks<O> {
    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut SseWriter) -> Poll<Progress> {
        if self.state == State::Ended {
            return Poll::Ready(Progress::End);
        }
        match ready!(self.generation.poll_delta(cx)) {
            Some((index, Ok(delta))) => {
                let usage = match self.options {
                    StreamOptions { continuous_usage_stats: true, .. } => Some(Some(self.generation.usage())),
                    StreamOptions { include_usage: true, .. } => Some(None),
                    _ => None,
                };
                self.output.chunk(index, &delta, usage, out);
            }
            Some((_, Err(error))) => {
                out.error(&error);
                self.state = State::Ended;
            }
            None => {
                if self.options.include_usage {
                    self.output.usage_chunk(self.generation.usage(), out);
                }
                self.state = State::Ended;
            }
        }
        Poll::Ready(Progress::More)
    }

    fn flush(&mut self, out: &mut SseWriter) {
        if self.tell_usage {
            out.comment(format_args!("{}", UsageReport::from(self.generation.usage())));
        }
    }

    fn expire(&mut self) -> ApiError {
        ApiError::deadline_exceeded(self.timeout)
    }
}

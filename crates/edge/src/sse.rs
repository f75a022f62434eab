//! Server-sent events: how tokens become bytes, and what the stream does when there are none.
//!
//! A body is polled by the connection itself, without a task or channel in between. All that is ready goes out
//! in one write; the connection drops the body when the client is gone, and with it the source.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http_body::Frame;
use serde::Serialize;
use tokio::time::{Instant, Sleep};

use crate::admission::Permit;
use crate::error::ApiError;

/// Where events come from.
pub trait SseSource: Send + Unpin + 'static {
    /// Write the events that are ready. `Pending` if there are none, with the waker of `cx` registered.
    fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut SseWriter) -> Poll<Progress>;

    /// What was written is about to be sent: add what goes with every batch of events. Nothing, unless told otherwise.
    fn flush(&mut self, out: &mut SseWriter) {
        let _ = out;
    }

    /// The deadline has passed: the error that ends the stream.
    fn expire(&mut self) -> ApiError;
}

/// What [`SseSource::poll_write`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Something was written, or may be next time.
    More,
    /// The last event was written; `[DONE]` follows.
    End,
}

/// How a stream behaves.
#[derive(Debug, Clone, Copy)]
pub struct SseOptions {
    /// A comment is sent after this long without an event, so that proxies keep the connection.
    pub keep_alive: Duration,
    /// When the stream is ended whatever it does.
    pub deadline: Option<Instant>,
}

/// Collects events until they are sent.
#[derive(Debug, Default)]
pub struct SseWriter {
    buffer: BytesMut,
}

/// The body of a streamed answer.
pub struct SseBody<S> {
    /// Source and permit, until the end.
    live: Option<(S, Permit)>,
    writer: SseWriter,
    keep_alive: Duration,
    /// Fires at the earliest moment a keep-alive may be due; moved only when it fires, not with every event.
    timer: Pin<Box<Sleep>>,
    last_write: Instant,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// A buffer of this size is sent before more events are collected.
const WRITE_SIZE: usize = 16 << 10;

// === impl SseWriter ===

impl SseWriter {
    /// Add an event.
    pub fn event(&mut self, value: &impl Serialize) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(b"data: ");
        match serde_json::to_writer((&mut self.buffer).writer(), value) {
            Ok(()) => self.buffer.extend_from_slice(b"\n\n"),
            Err(error) => {
                self.buffer.truncate(start);
                tracing::error!(%error, "an event could not be written as JSON");
            }
        }
    }

    /// Add an error, in the form that clients of OpenAI look for in the middle of a stream.
    pub fn error(&mut self, error: &ApiError) {
        self.event(&error.body());
    }

    /// Add a comment, which clients skip. `text` is one line.
    pub fn comment(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = std::io::Write::write_fmt(&mut (&mut self.buffer).writer(), format_args!(": {text}\n\n"));
    }

    fn done(&mut self) {
        self.buffer.extend_from_slice(b"data: [DONE]\n\n");
    }

    /// All that was added, with the event that ends a stream behind it.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.done();
        self.take()
    }

    fn take(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}

// === impl SseBody ===

impl<S: SseSource> SseBody<S> {
    /// Stream what `source` gives; `permit` is held until the stream ends or is dropped.
    #[must_use]
    pub fn new(source: S, permit: Permit, options: SseOptions) -> Self {
        let now = Instant::now();
        Self {
            live: Some((source, permit)),
            writer: SseWriter::default(),
            keep_alive: options.keep_alive,
            timer: Box::pin(tokio::time::sleep_until(now + options.keep_alive)),
            last_write: now,
            deadline: options.deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let Some((source, _)) = &mut self.live else { return Poll::Ready(None) };
            match source.poll_write(cx, &mut self.writer) {
                Poll::Ready(Progress::More) if self.writer.buffer.len() < WRITE_SIZE => continue,
                Poll::Ready(Progress::More) => source.flush(&mut self.writer),
                Poll::Ready(Progress::End) => {
                    source.flush(&mut self.writer);
                    self.end();
                }
                Poll::Pending if !self.writer.buffer.is_empty() => source.flush(&mut self.writer),
                Poll::Pending => std::task::ready!(self.poll_timers(cx)),
            }
            self.last_write = Instant::now();
            return Poll::Ready(Some(self.writer.take()));
        }
    }

    /// Ready when a timer has written something.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            if let Some((source, _)) = &mut self.live {
                let error = source.expire();
                self.writer.error(&error);
                source.flush(&mut self.writer);
            }
            self.end();
            return Poll::Ready(());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let due = self.last_write + self.keep_alive;
            let now = Instant::now();
            if due <= now {
                self.writer.comment(format_args!("keep-alive"));
                self.timer.as_mut().reset(now + self.keep_alive);
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn end(&mut self) {
        self.writer.done();
        self.live = None;
    }
}

impl<S: SseSource> http_body::Body for SseBody<S> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.poll_chunk(cx).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.live.is_none()
    }
}

impl<S> std::fmt::Debug for SseBody<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SseBody").field("ended", &self.live.is_none()).finish_non_exhaustive()
    }
}

/// The response that carries a stream.
#[must_use]
pub fn sse_response<S: SseSource>(body: SseBody<S>) -> Response {
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx and Kong otherwise collect the stream before they pass it on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests;

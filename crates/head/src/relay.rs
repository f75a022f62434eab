//! The body of a streamed answer on its way through: whole events, and an error event where the worker falls silent.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use vlinders_edge::{ApiError, Permit, SseWriter};

use crate::account::Account;
use crate::attempt::worker_failed;
use crate::events::Events;
use crate::metrics::Outcome;
use crate::worker::InFlight;

/// A stream that is passed on. It holds what the request holds, until it ends or the client leaves.
pub(crate) struct Relay {
    first: Option<Bytes>,
    /// `None` once it has ended.
    live: Option<Live>,
}

struct Live {
    rest: Incoming,
    events: Events,
    in_flight: InFlight,
    account: Account,
    _permit: Permit,
    deadline: Pin<Box<Sleep>>,
    timeout: Duration,
    retry_after: Duration,
    /// The worker is lost.
    lost: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The head ends.
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a stream is to hold.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) in_flight: InFlight,
    pub(crate) account: Account,
    pub(crate) permit: Permit,
}

/// When a stream is ended by the head.
pub(crate) struct Limits {
    pub(crate) deadline: Instant,
    pub(crate) timeout: Duration,
    pub(crate) retry_after: Duration,
    pub(crate) ending: WaitForCancellationFutureOwned,
}

// === impl Relay ===

impl Relay {
    pub(crate) fn new(first: Bytes, events: Events, rest: Incoming, held: Held, limits: Limits) -> Self {
        let Held { in_flight, mut account, permit } = held;
        account.first_byte();
        let lost = Box::pin(in_flight.lost.clone().cancelled_owned());
        let live = Live {
            rest,
            events,
            in_flight,
            account,
            _permit: permit,
            deadline: Box::pin(tokio::time::sleep_until(limits.deadline)),
            timeout: limits.timeout,
            retry_after: limits.retry_after,
            lost,
            ending: Box::pin(limits.ending),
        };
        Self { first: Some(first), live: Some(live) }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let Some(live) = &mut self.live else { return Poll::Ready(None) };
        let error = match live.poll_events(cx) {
            Poll::Ready(Ok(Some(events))) => return Poll::Ready(Some(events)),
            Poll::Ready(Ok(None)) => {
                live.end();
                self.live = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Err(error)) => error,
            Poll::Pending => std::task::ready!(live.poll_limits(cx)),
        };
        live.account.count(live.events.usage);
        live.account.fail(error.kind().status(), error.to_string());
        self.live = None;
        let mut last = SseWriter::default();
        last.error(&error);
        Poll::Ready(Some(last.finish()))
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.poll_bytes(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.live.is_none()
    }
}

// === impl Live ===

impl Live {
    /// The next events; `None` at the end.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        loop {
            let Some(frame) = std::task::ready!(Pin::new(&mut self.rest).poll_frame(cx)) else {
                return Poll::Ready(if self.events.is_broken() {
                    Err(self.broken("it ended early"))
                } else {
                    Ok(None)
                });
            };
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                // After the last event it does not matter how the connection ends.
                Err(_) if !self.events.is_broken() => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(self.broken(&error.to_string()))),
            };
            match self.events.push(data) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    let tokens = self.events.usage.map_or(0, |usage| usage.completion_tokens);
                    self.account.request().count(tokens);
                    return Poll::Ready(Ok(Some(events)));
                }
                Err(error) => return Poll::Ready(Err(self.broken(&error.to_string()))),
            }
        }
    }

    /// Ready when the head ends the stream.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<ApiError> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(ApiError::deadline_exceeded(self.timeout));
        }
        if self.lost.as_mut().poll(cx).is_ready() {
            return Poll::Ready(self.broken("it is lost"));
        }
        self.ending.as_mut().poll(cx).map(|()| shutting_down(self.retry_after))
    }

    fn broken(&self, why: &str) -> ApiError {
        let worker = &self.in_flight.replica.worker;
        tracing::warn!(worker = %worker.authority, why, "a stream broke off at a worker");
        worker.broke_off(std::time::Instant::now());
        worker_failed("the model's worker failed in the middle of the answer")
    }

    fn end(&mut self) {
        if self.events.failed {
            self.account.fail(StatusCode::OK, "the stream ended with an error of the worker".to_owned());
        } else {
            self.account.end(Outcome::Finished, StatusCode::OK);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A client that leaves has been sent this much.
        self.account.count(self.events.usage);
    }
}

/// What a client is told whose request the head ends.
pub(crate) fn shutting_down(retry_after: Duration) -> ApiError {
    ApiError::unavailable("the server is shutting down", "shutting_down", retry_after)
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("ended", &self.live.is_none()).finish_non_exhaustive()
    }
}

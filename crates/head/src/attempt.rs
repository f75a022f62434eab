//! One attempt: a request to one replica, up to the first byte of the answer. Until then it can be made elsewhere.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vlinders_edge::{ApiError, Stage, UsageReport};

use crate::client::{WorkerClient, WorkerError};
use crate::events::Events;
use crate::request::RoutedRequest;
use crate::worker::{InFlight, Replica};

/// An answer that is on its way, or there.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
    pub(crate) usage: Option<UsageReport>,
}

#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// A stream: what has come, and what is to come.
    Stream { first: Bytes, events: Events, rest: Incoming, in_flight: InFlight },
}

/// Why an attempt gave no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// What the client is told if this was the last attempt.
    pub(crate) told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// It has as many requests as it takes; others may have fewer.
    Busy,
    /// It takes no requests, or is not there.
    Unavailable,
    /// It failed.
    Broken,
}

/// What a client is told of a failure.
#[derive(Debug)]
pub(crate) enum Told {
    /// What the worker said.
    Answer(Box<Answer>),
    Error(ApiError),
}

/// The longest answer that is not a stream.
const MAX_WHOLE: usize = 256 << 20;

const FAILED: &str = "the model's worker failed; retry";

/// Who is told to come back after a failure of ours.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Ask `replica`.
///
/// # Errors
/// It gave no answer that a client could use; another one may.
pub(crate) async fn attempt(
    client: &WorkerClient,
    replica: &Arc<Replica>,
    request: &RoutedRequest,
    stage: &Stage,
) -> Result<Answer, Failure> {
    let in_flight = replica.begin(request.prompt_bytes);
    let lost = in_flight.lost.clone();
    tokio::select! {
        answered = ask(client, in_flight, request, stage) => answered,
        () = lost.cancelled() => Err(broken(replica, &WorkerError::Lost)),
    }
}

async fn ask(
    client: &WorkerClient,
    mut in_flight: InFlight,
    request: &RoutedRequest,
    stage: &Stage,
) -> Result<Answer, Failure> {
    let replica = &Arc::clone(&in_flight.replica);
    let worker = &replica.worker;
    worker.sending(Instant::now());
    let (mut headers, body) = (request.headers.clone(), request.body.clone());
    stage.inject(&mut headers);
    let sent = client.send(&worker.authority, Method::POST, request.path, headers, body).await;
    let response = sent.map_err(|error| broken(replica, &error))?;
    let (mut parts, mut body) = response.into_parts();
    let usage = UsageReport::take(&mut parts.headers);
    let is_stream = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if parts.status.is_success() && is_stream {
        let mut events = Events::default();
        let first = first_events(&mut body, &mut events).await.map_err(|error| broken(replica, &error))?;
        in_flight.first_byte();
        if events.failed {
            return Err(refused(replica, FailureKind::Broken, first_error(&first)));
        }
        worker.succeeded();
        let body = AnswerBody::Stream { first, events, rest: body, in_flight };
        return Ok(Answer { status: parts.status, headers: parts.headers, body, usage });
    }
    let whole = Limited::new(body, MAX_WHOLE).collect().await;
    let whole = whole.map_err(|error| broken(replica, &WorkerError::Body(error)))?.to_bytes();
    parts.headers.remove(CONTENT_LENGTH);
    let answer =
        Answer { status: parts.status, headers: parts.headers, body: AnswerBody::Whole(whole), usage };
    let kind = match parts.status {
        StatusCode::TOO_MANY_REQUESTS => FailureKind::Busy,
        // A model that it should have, and has not.
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::NOT_FOUND => FailureKind::Unavailable,
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => FailureKind::Broken,
        _ => {
            worker.succeeded();
            return Ok(answer);
        }
    };
    Err(refused(replica, kind, Told::Answer(Box::new(answer))))
}

/// The first whole events.
async fn first_events(body: &mut Incoming, events: &mut Events) -> Result<Bytes, WorkerError> {
    loop {
        let frame = body.frame().await;
        let frame = frame.ok_or_else(|| WorkerError::Body("it ended before its first event".into()))?;
        let Ok(data) = frame.map_err(|error| WorkerError::Body(error.into()))?.into_data() else { continue };
        let whole = events.push(data).map_err(|error| WorkerError::Body(error.into()))?;
        if !whole.is_empty() {
            return Ok(whole);
        }
    }
}

/// The replica answered, and the answer is no use.
fn refused(replica: &Replica, kind: FailureKind, told: Told) -> Failure {
    match kind {
        // That is how it should answer.
        FailureKind::Busy => replica.worker.succeeded(),
        FailureKind::Unavailable => {
            replica.worker.succeeded();
            replica.worker.refuses();
        }
        FailureKind::Broken => replica.worker.failed(Instant::now()),
    }
    Failure { kind, told }
}

/// The replica did not answer, or not to the end.
fn broken(replica: &Replica, error: &WorkerError) -> Failure {
    tracing::warn!(worker = %replica.worker.authority, %error, "a request failed at a worker");
    replica.worker.broke_off(Instant::now());
    Failure { kind: FailureKind::Broken, told: Told::Error(worker_failed(FAILED)) }
}

/// The error that a stream began with, as if it had not begun.
fn first_error(first: &Bytes) -> Told {
    let message = std::str::from_utf8(first).ok().and_then(|text| {
        let event = text.lines().find_map(|line| line.strip_prefix("data: "))?;
        let body: serde_json::Value = serde_json::from_str(event).ok()?;
        Some(body["error"]["message"].as_str()?.to_owned())
    });
    Told::Error(worker_failed(message.as_deref().unwrap_or(FAILED)))
}

/// What a client is told of a worker that failed.
pub(crate) fn worker_failed(message: &str) -> ApiError {
    ApiError::unavailable(message, "worker_failed", RETRY_AFTER)
}

// === impl FailureKind ===

impl FailureKind {
    pub(crate) const ALL: [Self; 3] = [Self::Busy, Self::Unavailable, Self::Broken];

    /// The label of a retry.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Broken => "broken",
        }
    }
}

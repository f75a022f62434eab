//! Request bodies: how large each and all together, how slow, of what type.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;

use crate::budget::{BodyLease, Budget};
use crate::error::{ApiError, ErrorKind};

/// How much clients may send, and how slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of one body.
    pub max_bytes: usize,
    /// Bytes of all bodies that are being read or not yet worked off; whoever comes on top gets 429.
    pub max_total_bytes: usize,
    /// From the end of the headers to the last byte.
    pub timeout: Duration,
}

/// Reads bodies within limits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bodies {
    limits: BodyLimits,
    retry_after: Duration,
    budget: Budget,
}

/// A refused body is read on for this many bytes and thrown away: a client that is still sending would otherwise
/// see a broken connection instead of the answer.
const LINGER_BYTES: usize = 32 << 20;

/// And for no longer than this.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Room that is made before the first byte has come. What a client announces costs it nothing, so it counts for little.
const FIRST_ROOM: usize = 64 << 10;

// === impl Bodies ===

impl Bodies {
    /// Whoever finds no room is told to come back after `retry_after`.
    #[must_use]
    pub fn new(limits: BodyLimits, retry_after: Duration) -> Self {
        Self { limits, retry_after, budget: Budget::new(limits.max_total_bytes) }
    }

    /// Bytes of all bodies at hand.
    #[must_use]
    pub fn bytes_held(&self) -> usize {
        self.budget.lent()
    }

    /// Read a JSON request. The lease is to be kept for as long as something of the size of the body is.
    ///
    /// # Errors
    /// The body is too large, too slow, of another type, or not what `T` needs, or there is no room for it.
    pub async fn read_json<T: DeserializeOwned>(&self, request: Request) -> Result<(T, BodyLease), ApiError> {
        let (bytes, lease) = self.read_json_text(request).await?;
        Ok((vlinders_api::parse(&bytes)?, lease))
    }

    /// Read the body of a JSON request without looking into it.
    ///
    /// # Errors
    /// The body is too large, too slow, of another type, or there is no room for it.
    pub async fn read_json_text(&self, request: Request) -> Result<(Bytes, BodyLease), ApiError> {
        require_json(request.headers())?;
        self.read(request).await
    }

    /// Read a body.
    ///
    /// # Errors
    /// It is too large or too slow, there is no room for it, or the connection broke.
    pub async fn read(&self, request: Request) -> Result<(Bytes, BodyLease), ApiError> {
        let (parts, body) = request.into_parts();
        let announced = number(&parts.headers, &CONTENT_LENGTH).unwrap_or(0);
        if let Some(refusal) = self.refusal(announced) {
            // A client that expects "100 Continue" has sent nothing yet, and a huge body is not worth the wait.
            if announced <= LINGER_BYTES as u64 && !parts.headers.contains_key(EXPECT) {
                linger(body).await;
            }
            return Err(refusal);
        }
        let timeout = self.limits.timeout;
        match tokio::time::timeout(timeout, self.collect(body, announced as usize)).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::new(
                ErrorKind::RequestTimeout,
                format!("the request body did not arrive within {} s", timeout.as_secs_f64()),
            )
            .with_code("request_timeout")),
        }
    }

    /// Why a body of this length is not even read.
    fn refusal(&self, announced: u64) -> Option<ApiError> {
        if announced > self.limits.max_bytes as u64 {
            Some(too_large(self.limits.max_bytes))
        } else if announced > self.budget.free() as u64 {
            Some(self.no_room())
        } else {
            None
        }
    }

    /// Bytes are taken from the budget as they come: a client that announces much and sends nothing takes nothing.
    async fn collect(&self, body: Body, announced: usize) -> Result<(Bytes, BodyLease), ApiError> {
        let mut stream = body.into_data_stream();
        let mut bytes = BytesMut::with_capacity(announced.min(FIRST_ROOM));
        let mut lease = self.budget.open();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| {
                let message = format!("the request body could not be read: {error}");
                ApiError::new(ErrorKind::InvalidRequest, message).with_code("broken_body")
            })?;
            let refusal = if bytes.len() + chunk.len() > self.limits.max_bytes {
                too_large(self.limits.max_bytes)
            } else if !lease.grow(chunk.len()) {
                self.no_room()
            } else {
                bytes.extend_from_slice(&chunk);
                continue;
            };
            drop((bytes, chunk, lease));
            linger(Body::from_stream(stream)).await;
            return Err(refusal);
        }
        Ok((bytes.freeze(), lease))
    }

    fn no_room(&self) -> ApiError {
        let limit = self.budget.limit();
        let message = format!("the server holds {limit} bytes of requests, as many as it takes; retry later");
        ApiError::too_many(message, "too_many_bytes", self.retry_after)
    }
}

async fn linger(body: Body) {
    let drain = async {
        let mut stream = body.into_data_stream();
        let mut seen = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            seen += chunk.len();
            if seen > LINGER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER_TIME, drain).await;
}

fn too_large(max_bytes: usize) -> ApiError {
    ApiError::new(
        ErrorKind::PayloadTooLarge,
        format!("the request body is larger than the {max_bytes} bytes allowed"),
    )
    .with_code("request_too_large")
}

/// Bodies must be JSON; a client that says nothing about the type is believed.
fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::UnsupportedMediaType,
        format!("the content type '{essence}' is not supported; send 'Content-Type: application/json'"),
    )
    .with_code("unsupported_media_type"))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies() -> Bodies {
        let timeout = Duration::from_millis(20);
        let limits = BodyLimits { max_bytes: 8, max_total_bytes: 20, timeout };
        Bodies::new(limits, Duration::from_secs(1))
    }

    async fn refused(bodies: &Bodies, request: Request) -> (ErrorKind, &'static str) {
        let error = bodies.read(request).await.expect_err("refused");
        (error.kind(), error.code().expect("a code"))
    }

    fn chunked(chunks: &'static [&'static str]) -> Request {
        let chunks = chunks.iter().map(|chunk| Ok::<_, std::io::Error>(Bytes::from_static(chunk.as_bytes())));
        Request::new(Body::from_stream(futures::stream::iter(chunks)))
    }

    fn announcing(length: &str, body: Body) -> Request {
        let mut request = Request::new(body);
        request.headers_mut().insert(CONTENT_LENGTH, length.parse().expect("a header"));
        request
    }

    #[tokio::test]
    async fn a_body_at_the_limit_passes_and_one_byte_more_does_not() {
        let bodies = bodies();
        let (read, _) = bodies.read(Request::new(Body::from("12345678"))).await.expect("fits");
        assert_eq!(read, "12345678");
        let larger = Request::new(Body::from("123456789"));
        assert_eq!(refused(&bodies, larger).await, (ErrorKind::PayloadTooLarge, "request_too_large"));
    }

    #[tokio::test]
    async fn the_announced_length_is_enough_to_refuse() {
        let request = announcing("9", Body::empty());
        assert_eq!(refused(&bodies(), request).await, (ErrorKind::PayloadTooLarge, "request_too_large"));
    }

    #[tokio::test]
    async fn a_body_that_never_ends_times_out() {
        let bodies = bodies();
        let silence = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let begun = futures::stream::iter([Ok(Bytes::from_static(b"1234"))]).chain(silence);
        let request = Request::new(Body::from_stream(begun));
        assert_eq!(refused(&bodies, request).await, (ErrorKind::RequestTimeout, "request_timeout"));
        assert_eq!(bodies.bytes_held(), 0);
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_limit_until_they_are_worked_off() {
        let bodies = bodies();
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(bodies.read(chunked(&["1234", "5678"])).await.expect("room").1);
        }
        assert_eq!(bodies.bytes_held(), 16);
        let full = (ErrorKind::TooManyRequests, "too_many_bytes");
        assert_eq!(refused(&bodies, chunked(&["1234", "5"])).await, full, "in the middle of the body");
        let unread = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        let mut request = announcing("5", Body::from_stream(unread));
        request.headers_mut().insert(EXPECT, "100-continue".parse().expect("a header"));
        assert_eq!(refused(&bodies, request).await, full, "before its first byte");
        assert_eq!(bodies.bytes_held(), 16, "a refused body takes nothing");
        let (_, small) = bodies.read(chunked(&["1234"])).await.expect("there is room for a small one");
        drop((held, small));
        assert_eq!(bodies.bytes_held(), 0);
    }

    #[tokio::test]
    async fn an_announcement_takes_no_room() {
        let bodies = bodies();
        let silence = || Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let waiting: Vec<_> = (0..5).map(|_| bodies.read(announcing("8", silence()))).collect();
        let (others, read) = tokio::join!(
            futures::future::join_all(waiting),
            bodies.read(announcing("8", Body::from("12345678")))
        );
        assert!(others.iter().all(Result::is_err) && read.is_ok());
    }

    #[test]
    fn only_json_is_read() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, value.parse().expect("a header"));
            require_json(&headers).is_ok()
        };
        assert!(check("application/json"));
        assert!(check("Application/JSON; charset=utf-8"));
        assert!(check("application/vnd.api+json"));
        assert!(!check("application/x-www-form-urlencoded"));
        assert!(!check("text/plain"));
        assert!(require_json(&HeaderMap::new()).is_ok());
    }
}

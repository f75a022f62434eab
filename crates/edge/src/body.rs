//! Request bodies: how large, how slow, of what type.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ErrorKind};

/// How much a client may send, and how slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes.
    pub max_bytes: usize,
    /// From the end of the headers to the last byte.
    pub timeout: Duration,
}

/// A refused body is read on for this many bytes and thrown away: a client that is still sending would otherwise
/// see a broken connection instead of the answer.
const LINGER_BYTES: usize = 32 << 20;

/// And for no longer than this.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Read a JSON request.
///
/// # Errors
/// The body is too large, too slow, of another type, or not what `T` needs.
pub async fn read_json<T: DeserializeOwned>(request: Request, limits: BodyLimits) -> Result<T, ApiError> {
    require_json(request.headers())?;
    let bytes = read_body(request, limits).await?;
    Ok(vlinders_api::parse(&bytes)?)
}

/// Read a body within limits.
///
/// # Errors
/// It is too large, too slow, or the connection broke.
pub async fn read_body(request: Request, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    let announced = number(&parts.headers, &CONTENT_LENGTH);
    if let Some(length) = announced.filter(|length| *length > limits.max_bytes as u64) {
        // A client that expects "100 Continue" has sent nothing yet, and a huge body is not worth the wait.
        if length <= LINGER_BYTES as u64 && !parts.headers.contains_key(EXPECT) {
            linger(body).await;
        }
        return Err(too_large(limits.max_bytes));
    }
    let capacity = announced.map_or(0, |length| length as usize);
    match tokio::time::timeout(limits.timeout, collect(body, capacity, limits.max_bytes)).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::new(
            ErrorKind::RequestTimeout,
            format!("the request body did not arrive within {} s", limits.timeout.as_secs_f64()),
        )
        .with_code("request_timeout")),
    }
}

async fn collect(body: Body, capacity: usize, max_bytes: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = BytesMut::with_capacity(capacity);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::new(ErrorKind::InvalidRequest, format!("the request body could not be read: {error}"))
                .with_code("broken_body")
        })?;
        if bytes.len() + chunk.len() > max_bytes {
            linger(Body::from_stream(stream)).await;
            return Err(too_large(max_bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
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

    const LIMITS: BodyLimits = BodyLimits { max_bytes: 8, timeout: Duration::from_millis(20) };

    fn request(body: Body) -> Request {
        Request::new(body)
    }

    #[tokio::test]
    async fn a_body_at_the_limit_passes_and_one_byte_more_does_not() {
        let read = read_body(request(Body::from("12345678")), LIMITS).await.expect("fits");
        assert_eq!(read, "12345678");
        let error = read_body(request(Body::from("123456789")), LIMITS).await.expect_err("too large");
        assert_eq!((error.kind(), error.code()), (ErrorKind::PayloadTooLarge, Some("request_too_large")));
    }

    #[tokio::test]
    async fn the_announced_length_is_enough_to_refuse() {
        let mut refused = request(Body::empty());
        refused.headers_mut().insert(CONTENT_LENGTH, "9".parse().expect("a header"));
        let error = read_body(refused, LIMITS).await.expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::PayloadTooLarge);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_times_out() {
        let body = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read_body(request(body), LIMITS).await.expect_err("too slow");
        assert_eq!((error.kind(), error.code()), (ErrorKind::RequestTimeout, Some("request_timeout")));
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

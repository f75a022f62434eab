//! One line of log and one count for each request; nothing of what it says, and no keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::metrics::Metrics;
use crate::trace::Trace;

/// The id of a request: the one the client sent in `x-request-id`, or a new one. It is sent back in the same header.
#[derive(Debug, Clone)]
pub struct RequestId(HeaderValue);

/// What the access log needs.
#[derive(Debug, Clone)]
pub struct AccessLog {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// Routes that are asked all the time; logged at debug level only.
    pub quiet: &'static [&'static str],
}

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids than this are replaced: they end up in logs.
const MAX_ID_LENGTH: usize = 128;

/// Name of the counter of requests by route, method and status.
const REQUESTS: &str = "vlinders_http_requests_total";

// === impl RequestId ===

impl RequestId {
    fn of(headers: &HeaderMap) -> Self {
        let sent = headers.get(&HEADER).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_ID_LENGTH).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        });
        match sent {
            Some(value) => Self(value.clone()),
            None => {
                let id = uuid::Uuid::new_v4().simple().to_string();
                Self(HeaderValue::try_from(id).expect("hexadecimal digits are a header value"))
            }
        }
    }

    /// The id, visible ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

// === impl AccessLog ===

impl AccessLog {
    /// A log that counts in `metrics`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, quiet: &'static [&'static str]) -> Self {
        metrics.describe_counter(REQUESTS, "HTTP requests by route, method and status");
        Self { metrics, quiet }
    }
}

/// Middleware that names, counts and logs requests. Times are those to the headers of the answer.
pub async fn access_log(State(log): State<AccessLog>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let name = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let trace = Trace::of(request.headers(), format!("{} {name}", request.method()));
    trace.note("request.id", id.as_str().to_owned());
    request.extensions_mut().insert(trace.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);

    let mut response = next.run(request).await;

    let status = response.status();
    log.metrics
        .counter(
            REQUESTS,
            &[("route", route), ("method", known_method(&method)), ("status", status.as_str())],
        )
        .increment(1);
    let millis = start.elapsed().as_secs_f64() * 1e3;
    let peer = peer.map(tracing::field::display);
    let trace_id = trace.id();
    let trace_id = trace_id.as_deref();
    trace.note("http.response.status_code", i64::from(status.as_u16()));
    if log.quiet.contains(&route) {
        tracing::debug!(request_id = id.as_str(), %method, path, status = status.as_u16(), millis, peer, trace_id, "request");
    } else {
        tracing::info!(request_id = id.as_str(), %method, path, status = status.as_u16(), millis, peer, trace_id, "request");
    }
    response.headers_mut().insert(HEADER, id.0);
    response
}

/// Clients may send any word as a method; labels must stay few.
fn known_method(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sent: Option<&str>) -> RequestId {
        let mut headers = HeaderMap::new();
        if let Some(sent) = sent {
            headers.insert(HEADER, HeaderValue::from_bytes(sent.as_bytes()).expect("a header"));
        }
        RequestId::of(&headers)
    }

    #[test]
    fn a_usable_id_is_kept_and_any_other_replaced() {
        assert_eq!(id(Some("abc-1")).as_str(), "abc-1");
        for wrong in [None, Some(""), Some("two words"), Some("\u{e9}"), Some("x".repeat(129).as_str())] {
            assert_eq!(id(wrong).as_str().len(), 32, "{wrong:?}");
        }
        assert_ne!(id(None).as_str(), id(None).as_str());
    }
}

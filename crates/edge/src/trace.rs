//! The trace of a request: whose it is part of (W3C traceparent), one span for each stage, and what the next hop is told.
//!
//! Spans go to whatever tracer the process has set up; without one they cost next to nothing, and the traceparent of the
//! client passes on unchanged.

use std::sync::LazyLock;
use std::time::SystemTime;

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::global::BoxedTracer;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The span of a request, with its place in a trace. Ends with the last clone.
#[derive(Debug, Clone)]
pub struct Trace {
    context: Context,
}

/// A part of the work for a request. Ends when dropped.
#[derive(Debug)]
pub struct Stage {
    context: Context,
}

/// The tracer that the process has set up before its first request; to look it up takes a lock.
static TRACER: LazyLock<BoxedTracer> = LazyLock::new(|| global::tracer("vlinders"));

struct Headers<'a>(&'a HeaderMap);

struct HeadersMut<'a>(&'a mut HeaderMap);

// === impl Trace ===

impl Trace {
    /// The span `name` of a request with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap, name: String) -> Self {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let tracer = &*TRACER;
        let span = tracer.span_builder(name).with_kind(SpanKind::Server).start_with_context(tracer, &parent);
        Self { context: parent.with_span(span) }
    }

    /// That of a request, which the access log has begun.
    #[must_use]
    pub fn begun(request: &Request) -> Self {
        let begun = request.extensions().get::<Self>().cloned();
        begun.unwrap_or_else(|| Self::of(request.headers(), request.method().to_string()))
    }

    /// A stage begins.
    #[must_use]
    pub fn stage(&self, name: &'static str) -> Stage {
        let tracer = &*TRACER;
        let span = tracer.span_builder(name).start_with_context(tracer, &self.context);
        Stage { context: self.context.with_span(span) }
    }

    /// A stage that is over.
    pub fn past(&self, name: &'static str, begun: SystemTime, ended: SystemTime) {
        let tracer = &*TRACER;
        let span = tracer.span_builder(name).with_start_time(begun).start_with_context(tracer, &self.context);
        self.context.with_span(span).span().end_with_timestamp(ended);
    }

    /// Note a fact about the request.
    pub fn note(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }

    /// The id of the trace, if there is one: 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        let span = self.context.span();
        let context = span.span_context();
        context.is_valid().then(|| context.trace_id().to_string())
    }
}

// === impl Stage ===

impl Stage {
    /// Tell the next hop whose part it is.
    pub fn inject(&self, headers: &mut HeaderMap) {
        TraceContextPropagator::new().inject_context(&self.context, &mut HeadersMut(headers));
    }

    /// It has failed.
    pub fn fail(&self, why: impl Into<std::borrow::Cow<'static, str>>) {
        self.context.span().set_status(Status::error(why));
    }

    /// Note a fact about it.
    pub fn note(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        self.context.span().set_attribute(KeyValue::new(key, value));
    }
}

// === impl Headers ===

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(traceparent: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", traceparent.parse().expect("a header"));
        headers
    }

    #[test]
    fn without_a_tracer_the_trace_of_the_client_passes_on() {
        let sent = headers("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let trace = Trace::of(&sent, "POST /".to_owned());
        assert_eq!(trace.id().as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        let mut passed = HeaderMap::new();
        trace.stage("attempt").inject(&mut passed);
        assert_eq!(passed["traceparent"], sent["traceparent"]);
    }

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        for wrong in ["", "00-0-0-00", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "zz"] {
            let trace = Trace::of(&headers(wrong), "POST /".to_owned());
            assert_eq!(trace.id(), None, "{wrong}");
            let mut passed = HeaderMap::new();
            trace.stage("attempt").inject(&mut passed);
            assert!(passed.get("traceparent").is_none(), "{wrong}");
        }
    }
}

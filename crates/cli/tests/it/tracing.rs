//! Traces: one for a request through head and worker, with a span for each stage, at a collector.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::process::{Server, http};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

type Spans = Arc<Mutex<Vec<(String, Span)>>>;

/// What a collector got: service and span.
async fn collect(State(spans): State<Spans>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
        let Some(AnyValue::StringValue(service)) = name.value.unwrap().value else {
            panic!("a name is text")
        };
        let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.lock().unwrap().extend(all.map(|span| (service.clone(), span)));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_one_trace_through_head_and_worker() {
    let spans = Spans::default();
    let router = Router::new().route("/v1/traces", post(collect)).with_state(Arc::clone(&spans));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let worker = Server::start_at(0, &["--otlp-endpoint", &collector]);
    let head_args = ["--worker", worker.address(), "--shutdown-delay", "0s", "--otlp-endpoint", &collector];
    let head = Server::start_head(&head_args);
    let body = json!({
        "model": vlinders_demo::MODEL_NAME, "stream": true, "max_tokens": 8,
        "messages": [{ "role": "user", "content": "Hello!" }],
    });
    let asked = http().post(format!("{}/v1/chat/completions", head.url)).json(&body);
    let asked = asked.header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    assert!(asked.send().await.unwrap().text().await.unwrap().ends_with("data: [DONE]\n\n"));
    // What is left is sent at the end.
    let log = tokio::task::spawn_blocking(move || {
        head.signal("TERM");
        let (_, log) = head.wait();
        worker.signal("TERM");
        worker.wait();
        log
    });
    let log = log.await.unwrap();
    assert!(log.iter().any(|line| line.contains("/v1/chat/completions") && line.contains(TRACE)), "{log:?}");

    let spans = spans.lock().unwrap();
    let of_trace: Vec<_> = spans.iter().filter(|(_, span)| hex(&span.trace_id) == TRACE).collect();
    let named: HashMap<_, _> =
        of_trace.iter().map(|(service, span)| ((service.as_str(), span.name.as_str()), span)).collect();
    let parent = |service: &str, name: &str| {
        let span = named.get(&(service, name));
        let span = span.unwrap_or_else(|| panic!("{service} has no span {name}: {:?}", named.keys()));
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0,
            "{name}"
        );
        hex(&span.parent_span_id)
    };
    let id = |service: &str, name: &str| hex(&named[&(service, name)].span_id);
    let route = "POST /v1/chat/completions";
    assert_eq!(parent("vlinders-head", route), CALLER);
    for stage in ["receive", "route", "attempt", "answer"] {
        assert_eq!(parent("vlinders-head", stage), id("vlinders-head", route), "{stage}");
    }
    assert_eq!(parent("vlinders-worker", route), id("vlinders-head", "attempt"));
    for stage in ["receive", "prompt", "queue", "prefill", "decode"] {
        assert_eq!(parent("vlinders-worker", stage), id("vlinders-worker", route), "{stage}");
    }
    assert_eq!(of_trace.len(), 11, "{:?}", named.keys());
}

//! What passes through a head: requests, answers, streams, and what does not.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use vlinders_consumers::{Authenticator, NamedKeys};
use vlinders_edge::Secret;
use vlinders_head::HeadConfig;

use crate::support::{Act, MODEL, MockWorker, TestHead};

const TOKENS: &str = "vlinders_head_tokens_total";

async fn tokens(head: &TestHead) -> [f64; 3] {
    let mut counts = [0.0; 3];
    for (count, kind) in counts.iter_mut().zip(["prompt", "cached", "completion"]) {
        *count = head.metric(&format!("{TOKENS}{{model_name=\"{MODEL}\",kind=\"{kind}\"}}")).await;
    }
    counts
}

#[tokio::test]
async fn an_answer_passes_as_it_is_and_its_tokens_are_counted() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::start(&[&worker]).await;
    let response = head.chat("hello", false).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers().get("x-vlinders-usage").is_none());
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "worker": "a" }));
    assert_eq!(tokens(&head).await, [6.0, 4.0, 3.0]);
    assert_eq!(
        head.metric("vlinders_head_requests_total{model_name=\"parrot\",outcome=\"finished\"}").await,
        1.0
    );
    assert_eq!(head.metric("vlinders_requests_in_flight").await, 0.0);
}

/// A rate can not tell of the first failure when the series begins with it.
#[tokio::test]
async fn what_has_not_happened_is_counted_as_none() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::start(&[&worker]).await;
    head.chat("hello", false).send().await.unwrap();
    let text = head.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for series in [
        "vlinders_head_requests_total{model_name=\"parrot\",outcome=\"failed\"} 0",
        "vlinders_head_requests_total{model_name=\"parrot\",outcome=\"aborted\"} 0",
        "vlinders_head_retries_total{model_name=\"parrot\",reason=\"broken\"} 0",
        "vlinders_head_retries_total{model_name=\"parrot\",reason=\"busy\"} 0",
        "vlinders_head_retries_total{model_name=\"parrot\",reason=\"unavailable\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series}");
    }
}

#[tokio::test]
async fn a_stream_passes_without_what_the_worker_tells_the_head() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::start(&[&worker]).await;
    let told = head.stream("hello").await;
    assert_eq!(told, "data: {\"a\":1}\n\ndata: {\"worker\":\"a\"}\n\ndata: [DONE]\n\n");
    head.until_metric("vlinders_head_requests_total{model_name=\"parrot\",outcome=\"finished\"}", 1.0).await;
    assert_eq!(tokens(&head).await, [6.0, 4.0, 3.0]);
}

#[tokio::test]
async fn a_stream_whose_client_leaves_is_cancelled_and_counted() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::start(&[&worker]).await;
    let (tell, told) = mpsc::channel(4);
    worker.will([Act::Told(told)]);
    tell.send("data: {\"a\":1}\n\n: usage 9 0 1\n\n").await.unwrap();
    let mut response = head.chat("hello", true).send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"a\":1}\n\n");
    tell.send("data: {\"a\":2}\n\n: usage 9 0 2\n\n").await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "data: {\"a\":2}\n\n");
    assert_eq!(head.metric("vlinders_requests_in_flight").await, 1.0);
    drop(response);
    worker.until_left().await;
    head.until_metric("vlinders_head_requests_total{model_name=\"parrot\",outcome=\"aborted\"}", 1.0).await;
    assert_eq!(tokens(&head).await, [9.0, 0.0, 2.0]);
    head.until_metric("vlinders_requests_in_flight", 0.0).await;
}

#[tokio::test]
async fn credentials_of_clients_stay_at_the_head() {
    let worker = MockWorker::start("a").await;
    let keys = Authenticator::open().with_keys(NamedKeys::parse("blue sk-client").unwrap());
    let key = |config: &mut HeadConfig| config.worker_key = Some(Secret::new("sk-worker"));
    let head = TestHead::equipped(&worker, key, |parts, _| parts.authenticator = keys).await;
    let refused = head.ask("hello").await;
    assert_eq!((refused.0, refused.1["error"]["code"].as_str()), (401, Some("missing_api_key")));
    let asked = head
        .chat("hello", false)
        .bearer_auth("sk-client")
        .header("cookie", "c=1")
        .header("x-request-id", "id-7");
    let traced = asked.header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let response = traced.header("x-internal-secret", "s").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-request-id"]),
        (200, &"id-7".parse().unwrap())
    );
    let (headers, body) = worker.last();
    assert_eq!(headers["authorization"], "Bearer sk-worker");
    assert_eq!(headers["x-request-id"], "id-7");
    assert!(headers["traceparent"].to_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert!(headers.get("cookie").is_none() && headers.get("x-internal-secret").is_none());
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
}

#[tokio::test]
async fn bad_requests_are_told_by_whoever_sees_it_first() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::start(&[&worker]).await;
    let post = async |body: &'static str| {
        let request =
            head.request(Method::POST, "/v1/chat/completions").header("content-type", "application/json");
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let error = response.json::<Value>().await.unwrap()["error"].clone();
        (status, error["code"].as_str().unwrap().to_owned(), error["param"].as_str().map(str::to_owned))
    };
    assert_eq!(post("{").await, (400, "invalid_json".into(), None));
    assert_eq!(post("[]").await, (400, "invalid_type".into(), None));
    assert_eq!(post("{\"model\": 1}").await, (400, "invalid_type".into(), Some("model".into())));
    assert_eq!(post("{\"model\": \"x\"}").await, (404, "model_not_found".into(), Some("model".into())));
    assert_eq!(worker.count(), 0);
    worker.will([Act::Refuse(400, "invalid_value")]);
    assert_eq!(post("{\"model\": \"parrot\", \"messages\": 7}").await, (400, "invalid_value".into(), None));
    assert_eq!(worker.count(), 1, "a client's mistake is not sent twice");
    let (status, _) = head.get("/v1/chat/completions").await;
    assert_eq!(status, 405);
    assert_eq!(head.get("/nowhere").await.0, 404);
}

#[tokio::test]
async fn other_routes_of_a_worker_are_forwarded() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::start(&[&worker]).await;
    let body = json!({ "model": "org/parrot-small", "prompt": "x" });
    let response = head.request(Method::POST, "/tokenize").json(&body).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "worker": "a" }));
}

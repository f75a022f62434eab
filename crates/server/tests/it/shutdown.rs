//! The signal to stop: nobody new comes in, everybody inside finishes or is told.

use std::time::Duration;

use serde_json::json;

use crate::support::{TestServer, chat_body, events};

#[tokio::test]
async fn running_answers_finish_and_new_ones_are_refused() {
    let mut server = TestServer::start().await;
    server.gate.close();
    let running = server.send("/v1/chat/completions", &chat_body("hello", json!({ "stream": true }))).await;
    server.until("it runs", |stats| stats.running == 1).await;
    server.stop();
    while server.get("/ready").await.0 == 200 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let refused = server.send("/v1/chat/completions", &chat_body("too late", json!({}))).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(server.get("/health").await.0, 200, "it is not to be killed");
    server.gate.set_open();
    let text = running.text().await.unwrap();
    assert_eq!(events(&text).last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(server.stopped().await, "all finished");
    assert!(server.request(reqwest::Method::GET, "/health").send().await.is_err(), "nobody listens");
}

#[tokio::test]
async fn what_outlives_the_grace_time_ends_with_an_error() {
    let mut server = TestServer::with(|config, _| config.shutdown_grace = Duration::from_millis(50)).await;
    server.gate.close();
    let running = server.send("/v1/chat/completions", &chat_body("hello", json!({ "stream": true }))).await;
    server.until("it runs", |stats| stats.running == 1).await;
    server.stop();
    let gate = server.gate.clone();
    let opener = tokio::spawn(async move {
        // Slow, not stuck: one step at a time.
        for _ in 0..400 {
            gate.allow(1);
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    });
    let text = running.text().await.unwrap();
    opener.abort();
    let last = events(&text).pop().unwrap();
    assert_eq!(last["error"]["code"], "engine_error", "{text}");
    assert!(!server.stopped().await, "not all finished");
}

#[tokio::test]
async fn at_rest_it_ends_at_once() {
    let mut server = TestServer::start().await;
    server.chat("hello", json!({})).await;
    server.stop();
    assert!(server.stopped().await);
}

//! What text is let out, and when.

use serde_json::{Value, json};

use crate::support::{TestServer, events};

/// Text and finish reason of a streamed answer.
async fn streamed(server: &TestServer, content: &str, fields: Value) -> (String, String) {
    let events = events(&server.chat_stream(content, fields).await);
    let text = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    let reason = events.last().unwrap()["choices"][0]["finish_reason"].as_str().unwrap().to_owned();
    (text, reason)
}

/// The answer must be the same whole and streamed.
async fn check(server: &TestServer, content: &str, fields: Value, text: &str, reason: &str) {
    let whole = server.chat(content, fields.clone()).await;
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(whole["choices"][0]["finish_reason"], reason);
    assert_eq!(streamed(server, content, fields).await, (text.to_owned(), reason.to_owned()));
}

#[tokio::test]
async fn stop_strings_span_tokens_and_do_not_leak() {
    let server = TestServer::start().await;
    check(&server, "one two three", json!({ "stop": "tw" }), "one ", "stop").await;
    check(&server, "one two three", json!({ "stop": ["zzz", " t"] }), "one", "stop").await;
    check(&server, "one two", json!({ "stop": "two!" }), "one two", "stop").await;
    check(&server, "one two", json!({ "stop": "two!", "max_tokens": 6 }), "one tw", "length").await;
    check(&server, "one two", json!({ "stop": "e t", "include_stop_str_in_output": true }), "one t", "stop")
        .await;
    check(&server, "aé蝶b", json!({ "stop": "蝶" }), "aé", "stop").await;
    check(&server, "xaxb", json!({ "stop": "x", "min_tokens": 2 }), "xa", "stop").await;
}

#[tokio::test]
async fn a_stop_string_frees_the_sequence() {
    let server = TestServer::start().await;
    let answer = server.chat("abc", json!({ "stop": "b", "ignore_eos": true })).await;
    assert_eq!(answer["usage"]["completion_tokens"], 2);
    server.until_idle().await;
}

#[tokio::test]
async fn stop_tokens_end_the_answer() {
    let server = TestServer::start().await;
    check(&server, "abc", json!({ "stop_token_ids": [98] }), "a", "stop").await;
    let shown = json!({ "stop_token_ids": [98], "include_stop_str_in_output": true });
    check(&server, "abc", shown, "ab", "stop").await;
}

#[tokio::test]
async fn characters_are_never_broken() {
    let server = TestServer::start().await;
    let text = "é蝶🦋e\u{301}👩\u{200d}👧";
    check(&server, text, json!({}), text, "stop").await;
    check(&server, "🦋", json!({ "max_tokens": 3 }), "\u{fffd}", "length").await;
    let pieces = events(&server.chat_stream(text, json!({})).await);
    let pieces: Vec<_> =
        pieces.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(
        pieces.len(),
        1 + text.chars().count(),
        "one chunk for the role, one for each character: {pieces:?}"
    );
}

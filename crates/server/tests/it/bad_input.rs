//! What clients should not send: each gets a clear answer, and the server goes on.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{MAX_MODEL_LEN, MODEL, TestServer, chat_body, merge, read};

fn line(name: &str, status: u16, answer: &Value) -> String {
    let error = &answer["error"];
    let text = |key: &str| error[key].as_str().unwrap_or("-").to_owned();
    assert_eq!(error.as_object().map(|error| error.len()), Some(4), "{name}: {answer}");
    format!(
        "{name}\n  {status} {} param={} code={}\n  {}\n",
        text("type"),
        text("param"),
        text("code"),
        text("message")
    )
}

async fn raw(server: &TestServer, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request =
        server.request(Method::POST, "/v1/chat/completions").header("content-type", "application/json");
    read(request.body(body).send().await.unwrap()).await
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let server = TestServer::start().await;
    let mut out = String::new();
    let invalid_utf8: &[u8] = b"{\"model\": \"\xc3\x28\"}";
    for body in [&b""[..], b"{", b"null", b"[]", b"5", b"{}{}", b"{'model': 'm'}", b"\x00", invalid_utf8] {
        let (status, answer) = raw(&server, body.to_vec()).await;
        out += &line(&String::from_utf8_lossy(body), status, &answer);
    }
    for number in ["NaN", "Infinity", "1e999"] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],"temperature":{number}}}"#);
        let (status, answer) = raw(&server, body).await;
        out += &line(&format!("temperature {number}"), status, &answer);
    }
    insta::assert_snapshot!(out);
    server.chat("still there", json!({})).await;
}

#[tokio::test]
async fn fields_with_wrong_values() {
    let server = TestServer::start().await;
    let mut out = String::new();
    for fields in [
        json!({ "model": "gpt-9" }),
        json!({ "model": 5 }),
        json!({ "messages": [] }),
        json!({ "messages": "hello" }),
        json!({ "messages": [null] }),
        json!({ "messages": [{ "role": "wizard", "content": "x" }] }),
        json!({ "messages": [{ "content": "x" }] }),
        json!({ "messages": [{ "role": "user" }] }),
        json!({ "messages": [{ "role": "user", "content": 5 }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text" }] }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "u" } }] }] }),
        json!({ "messages": [{ "role": "user", "content": "x".repeat(MAX_MODEL_LEN - 3) }] }),
        json!({ "messages": [{ "role": "user", "content": "x".repeat(100_000) }] }),
        json!({ "temperature": "hot" }),
        json!({ "temperature": -0.1 }),
        json!({ "temperature": 2.1 }),
        json!({ "temperature": 1e300 }),
        json!({ "top_p": 0 }),
        json!({ "top_p": 1.5 }),
        json!({ "top_k": -7 }),
        json!({ "min_p": 2 }),
        json!({ "presence_penalty": 3 }),
        json!({ "frequency_penalty": -3 }),
        json!({ "repetition_penalty": 0 }),
        json!({ "max_tokens": 0 }),
        json!({ "max_completion_tokens": 0 }),
        json!({ "max_tokens": -1 }),
        json!({ "max_tokens": 2.5 }),
        json!({ "max_tokens": 1000 }),
        json!({ "min_tokens": 6, "max_tokens": 5 }),
        json!({ "n": 0 }),
        json!({ "n": 129 }),
        json!({ "best_of": 3 }),
        json!({ "stop": ["a", "b", "c", "d", "e"] }),
        json!({ "stop": [""] }),
        json!({ "stop": "x".repeat(1025) }),
        json!({ "seed": "x" }),
        json!({ "logit_bias": { "nothing": 1 } }),
        json!({ "logit_bias": { "261": 1 } }),
        json!({ "logit_bias": { "1": 101 } }),
        json!({ "stop_token_ids": [999] }),
        json!({ "top_logprobs": 3 }),
        json!({ "logprobs": true, "top_logprobs": 21 }),
        json!({ "stream_options": { "include_usage": true } }),
        json!({ "response_format": { "type": "json_object" } }),
        json!({ "response_format": { "type": "poem" } }),
        json!({ "guided_json": {} }),
        json!({ "functions": [] }),
        json!({ "modalities": ["audio"] }),
        json!({ "tools": [{ "type": "retrieval" }] }),
        json!({ "tool_choice": { "type": "function", "function": { "name": "f" } } }),
        json!({ "continue_final_message": true, "add_generation_prompt": true }),
        json!({ "chat_template_kwargs": { "messages": [] } }),
    ] {
        let name = fields.to_string();
        let (status, answer) = server.post("/v1/chat/completions", &chat_body("x", fields)).await;
        out += &line(&name.chars().take(90).collect::<String>(), status, &answer);
    }
    insta::assert_snapshot!(out);
    server.until_idle().await;
    server.chat("still there", json!({})).await;
}

#[tokio::test]
async fn completions_with_wrong_values() {
    let server = TestServer::start().await;
    let mut out = String::new();
    for fields in [
        json!({}),
        json!({ "prompt": null }),
        json!({ "prompt": "" }),
        json!({ "prompt": [] }),
        json!({ "prompt": [[]] }),
        json!({ "prompt": [-1] }),
        json!({ "prompt": [261] }),
        json!({ "prompt": ["a", 1] }),
        json!({ "prompt": { "a": 1 } }),
        json!({ "prompt": vec!["a"; 129] }),
        json!({ "prompt": vec![97; MAX_MODEL_LEN], "max_tokens": 1 }),
        json!({ "prompt": "a", "max_tokens": 0 }),
        json!({ "prompt": "a", "logprobs": 21 }),
        json!({ "prompt": "a", "suffix": "b" }),
    ] {
        let name = fields.to_string();
        let mut body = json!({ "model": MODEL });
        merge(&mut body, fields);
        let (status, answer) = server.post("/v1/completions", &body).await;
        out += &line(&name.chars().take(60).collect::<String>(), status, &answer);
    }
    insta::assert_snapshot!(out);
}

#[tokio::test]
async fn a_prompt_that_just_fits_is_served() {
    let server = TestServer::start().await;
    let body = json!({ "model": MODEL, "prompt": vec![97; MAX_MODEL_LEN - 1], "max_tokens": 1 });
    let (status, answer) = server.post("/v1/completions", &body).await;
    assert_eq!((status, &answer["usage"]["total_tokens"]), (200, &json!(MAX_MODEL_LEN)));
}

#[tokio::test]
async fn addresses_methods_and_types() {
    let server = TestServer::start().await;
    let mut out = String::new();
    for (method, path) in [
        (Method::GET, "/"),
        (Method::POST, "/v1/no/such/thing"),
        (Method::GET, "/v1/chat/completions"),
        (Method::DELETE, "/v1/models"),
        (Method::GET, "/v1/models/gpt-9"),
    ] {
        let name = format!("{method} {path}");
        let response = server.request(method, path).send().await.unwrap();
        if response.status() == 405 {
            out += &format!("allow: {}\n", response.headers()["allow"].to_str().unwrap());
        }
        let (status, answer) = read(response).await;
        out += &line(&name, status, &answer);
    }
    let form =
        server.request(Method::POST, "/v1/chat/completions").header("content-type", "text/plain").body("{}");
    let (status, answer) = read(form.send().await.unwrap()).await;
    out += &line("text/plain", status, &answer);
    insta::assert_snapshot!(out);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_answer_arrives() {
    let server = TestServer::with(|config, _| config.body.max_bytes = 1 << 20).await;
    let (status, answer) = raw(&server, vec![b' '; 10 << 20]).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("request_too_large")));
    let chunks = futures::stream::iter((0..160).map(|_| Ok::<_, std::io::Error>(vec![b' '; 65536])));
    let (status, answer) = raw(&server, reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (413, Some("request_too_large")));
    server.chat("still there", json!({})).await;
}

#[tokio::test]
async fn slow_requests_time_out_and_hold_nobody_up() {
    let server = TestServer::with(|config, _| {
        config.body.timeout = std::time::Duration::from_millis(50);
        config.connections.header_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    let address = server.url.trim_start_matches("http://");
    let mut half_head = TcpStream::connect(address).await.unwrap();
    half_head.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-le").await.unwrap();
    let mut half_body = TcpStream::connect(address).await.unwrap();
    half_body
        .write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"mod")
        .await
        .unwrap();
    server.chat("still there", json!({})).await;
    let mut answer = vec![0; 12];
    half_body.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    let mut rest = Vec::new();
    let _ = half_head.read_to_end(&mut rest).await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "closed without an answer: {rest:?}");
}

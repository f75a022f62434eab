//! More than the server takes, and longer than it waits.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{TestServer, chat_body, events, read};

#[tokio::test]
async fn over_the_limit_of_requests_all_get_429() {
    let server = TestServer::with(|config, _| {
        config.max_in_flight = 10;
        config.retry_after = Duration::from_millis(1500);
    })
    .await;
    server.gate.close();
    let body = chat_body("hello", json!({}));
    let asks = futures::future::join_all((0..1200).map(|_| server.send("/v1/chat/completions", &body)));
    let watch = async {
        server.until("ten are inside", |stats| stats.running + stats.waiting == 10).await;
        // Let the others be refused first: the ten do not move.
        while refused(&server).await < 1190.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.gate.set_open();
    };
    let (responses, ()) = tokio::join!(asks, watch);
    let mut served = 0;
    for response in responses {
        if response.status() == 200 {
            served += 1;
            continue;
        }
        assert_eq!(response.headers()["retry-after"], "2");
        let (status, answer) = read(response).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (429, Some("too_many_requests")));
        assert_eq!(answer["error"]["type"], "rate_limit_error");
    }
    assert_eq!(served, 10);
    server.until_idle().await;
}

async fn refused(server: &TestServer) -> f64 {
    let series =
        "vlinders_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"429\"}";
    let text = server.metrics().await;
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or(0.0)
}

#[tokio::test]
async fn a_full_queue_refuses_all_choices_of_a_request() {
    let server = TestServer::with(|_, sizes| {
        sizes.max_num_seqs = 1;
        sizes.max_waiting = 3;
    })
    .await;
    server.gate.close();
    let running = server.send("/v1/chat/completions", &chat_body("hello", json!({ "stream": true }))).await;
    server.until("one runs", |stats| stats.running == 1).await;
    let (status, answer) = server.post("/v1/chat/completions", &chat_body("hello", json!({ "n": 4 }))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (429, Some("queue_full")));
    assert_eq!(server.engine.stats().waiting, 0, "its first three choices are gone too");
    server.gate.set_open();
    running.text().await.unwrap();
    server.until_idle().await;
}

#[tokio::test]
async fn a_deadline_ends_whole_answers_and_streams() {
    let server = TestServer::with(|config, _| config.request_timeout = Duration::from_millis(100)).await;
    server.gate.close();
    let (status, answer) = server.post("/v1/chat/completions", &chat_body("hello", json!({}))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (504, Some("deadline_exceeded")));
    server.gate.allow(3);
    let stream = server.chat_stream("hello", json!({})).await;
    let last = events(&stream).pop().unwrap();
    assert_eq!(last["error"]["code"], "deadline_exceeded", "{stream}");
    server.gate.set_open();
    server.until_idle().await;
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive() {
    let server = TestServer::with(|config, _| config.keep_alive = Duration::from_millis(10)).await;
    server.gate.close();
    let mut response = server.send("/v1/chat/completions", &chat_body("hi", json!({ "stream": true }))).await;
    for _ in 0..2 {
        assert_eq!(response.chunk().await.unwrap().unwrap(), ": keep-alive\n\n");
    }
    server.gate.set_open();
    let rest = response.text().await.unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "{rest}");
}

/// A request of which the last byte is missing, and that byte.
async fn almost_sent(server: &TestServer, body: &str) -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (start, last) = body.split_at(body.len() - 1);
    stream.write_all(format!("{head}{start}").as_bytes()).await.unwrap();
    (stream, last.as_bytes()[0])
}

#[tokio::test]
async fn bodies_of_all_requests_together_are_bounded() {
    let body = chat_body("hello", json!({ "user": "x".repeat(1000) }));
    let text = body.to_string();
    let server = TestServer::with(|config, _| {
        config.body.max_total_bytes = 2 * text.len();
        config.retry_after = Duration::from_secs(3);
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(almost_sent(&server, &text).await);
    }
    let held = 2 * (text.len() - 1);
    while server.metric("vlinders_request_body_bytes").await != held as f64 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let response = server.send("/v1/chat/completions", &body).await;
    assert_eq!(response.headers()["retry-after"], "3");
    let (status, answer) = read(response).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (429, Some("too_many_bytes")), "{answer}");
    assert_eq!(answer["error"]["type"], "rate_limit_error");

    for (mut stream, last) in open {
        stream.write_all(&[last]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(server.metric("vlinders_request_body_bytes").await, 0.0);
    server.chat("hello", json!({})).await;
}

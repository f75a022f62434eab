//! Clients that leave, and clients that do not read: their work goes with them.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{TestServer, chat_body};

const FOR_EVER: &str = "and so on";

#[tokio::test]
async fn closing_a_stream_frees_everything() {
    let server = TestServer::start().await;
    let body = chat_body(FOR_EVER, json!({ "stream": true, "n": 3, "ignore_eos": true }));
    server.gate.close();
    let response = server.send("/v1/chat/completions", &body).await;
    server.gate.allow(8);
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    server.until("all run", |stats| stats.running == 3).await;
    drop(stream);
    server.gate.set_open();
    server.until_idle().await;
    assert_eq!(server.metric("vllm:num_requests_running{model_name=\"parrot\",engine=\"0\"}").await, 0.0);
    assert_eq!(server.metric("vllm:kv_cache_usage_perc{model_name=\"parrot\",engine=\"0\"}").await, 0.0);
    let aborted = "vllm:request_success_total{model_name=\"parrot\",engine=\"0\",finished_reason=\"abort\"}";
    assert_eq!(server.metric(aborted).await, 3.0);
    assert_eq!(server.metric("vlinders_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn leaving_before_a_whole_answer() {
    let server = TestServer::start().await;
    server.gate.close();
    let body = chat_body(FOR_EVER, json!({ "n": 2, "ignore_eos": true })).to_string();
    let mut peer = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    peer.write_all((head + &body).as_bytes()).await.unwrap();
    server.until("it runs", |stats| stats.running + stats.waiting == 2).await;
    drop(peer);
    // One step at a time, so that the answer is far from its end when the server notices.
    for _ in 0..200 {
        server.gate.allow(1);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let stats = server.engine.stats();
        if stats.running + stats.waiting + stats.blocks_used == 0 {
            return;
        }
    }
    panic!("it was computed although nobody waits for it: {:?}", server.engine.stats());
}

#[tokio::test]
async fn leaving_the_queue() {
    let server = TestServer::with(|_, sizes| sizes.max_num_seqs = 1).await;
    server.gate.close();
    let body = chat_body(FOR_EVER, json!({ "stream": true }));
    let stays = server.send("/v1/chat/completions", &body).await;
    server.until("one runs", |stats| stats.running == 1).await;
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(server.send("/v1/chat/completions", &body).await);
    }
    server.until("twenty wait", |stats| stats.waiting == 20).await;
    drop(waiting);
    server.gate.set_open();
    let text = stays.text().await.unwrap();
    assert!(text.contains("\"finish_reason\":\"stop\"") && text.ends_with("[DONE]\n\n"), "{text}");
    server.until_idle().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = TestServer::with(|config, sizes| {
        config.connections.write_timeout = Duration::from_millis(100);
        sizes.num_blocks = 8192;
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut peer = socket.connect(server.url.trim_start_matches("http://").parse().unwrap()).await.unwrap();
    // Enough to fill the buffers of both sides: each chunk of a choice carries 20 alternatives.
    let fields = json!({ "stream": true, "n": 32, "ignore_eos": true, "logprobs": true, "top_logprobs": 20 });
    let body = chat_body(FOR_EVER, fields).to_string();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    peer.write_all((head + &body).as_bytes()).await.unwrap();
    server.until("the engine is done", |stats| stats.generation_tokens > 0 && !stats.has_work).await;
    server.chat("others are served", json!({})).await;
    // Only now does anybody look, and the connection is gone.
    for _ in 0..2000 {
        if server.metric("vlinders_requests_in_flight").await == 0.0 {
            let mut rest = Vec::new();
            let _ = peer.read_to_end(&mut rest).await;
            assert!(!rest.ends_with(b"[DONE]\n\n\r\n0\r\n\r\n"), "it got everything, so nothing was cut off");
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the request is held for ever");
}

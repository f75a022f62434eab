//! SIGTERM: running answers arrive whole, then the process ends with 0.

use futures::StreamExt as _;
use serde_json::json;

use crate::process::{Server, http};

#[tokio::test]
async fn a_running_answer_is_finished_before_the_end() {
    let server = Server::start();
    let body = json!({
        "model": vlinders_demo::MODEL_NAME, "prompt": "butterflies", "max_tokens": 150, "ignore_eos": true,
        "stream": true,
    });
    let request = http().post(format!("{}/v1/completions", server.url)).json(&body);
    let mut stream = request.send().await.unwrap().bytes_stream();
    let mut received = stream.next().await.unwrap().unwrap().to_vec();
    server.signal("TERM");
    while let Some(bytes) = stream.next().await {
        received.extend_from_slice(&bytes.unwrap());
    }
    let text = String::from_utf8(received).unwrap();
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert!(text.contains("\"finish_reason\":\"length\""), "{text}");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(log.last().unwrap().contains("stopped"), "{log:?}");
}

#[test]
fn without_requests_it_ends_at_once() {
    for signal in ["TERM", "INT"] {
        let server = Server::start();
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log:?}");
    }
}

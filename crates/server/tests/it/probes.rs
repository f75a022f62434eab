//! Models, health, readiness, version, description.

use std::time::Duration;

use serde_json::json;

use crate::support::{MODEL, TestServer, chat_body};

#[tokio::test]
async fn models_are_listed_under_all_their_names() {
    let server = TestServer::start().await;
    let (status, mut list) = server.get("/v1/models").await;
    assert_eq!(status, 200);
    for card in list["data"].as_array_mut().unwrap() {
        assert!(card["created"].as_u64().unwrap() > 1_700_000_000);
        card["created"] = 0.into();
    }
    insta::assert_snapshot!(list.to_string());
    let (status, card) = server.get("/v1/models/org/parrot-small").await;
    assert_eq!((status, &card["id"], &card["root"]), (200, &json!("org/parrot-small"), &json!(MODEL)));
}

#[tokio::test]
async fn a_working_server_is_healthy_and_ready() {
    let server = TestServer::start().await;
    let models = json!([{ "name": MODEL, "state": "ready" }]);
    assert_eq!(server.get("/health").await, (200, json!({ "status": "ok", "models": models })));
    assert_eq!(server.get("/ready").await, (200, json!({ "status": "ready", "models": models })));
    assert_eq!(server.get("/version").await, (200, json!({ "version": env!("CARGO_PKG_VERSION") })));
    let (status, document) = server.get("/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
}

#[tokio::test]
async fn what_is_described_is_served() {
    let server = TestServer::start().await;
    let (_, document) = server.get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 12);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path.replace("{id}", MODEL);
            let status = server.request(method, &path).json(&json!({})).send().await.unwrap().status();
            assert!(status == 200 || status == 400, "{path} gave {status}");
        }
    }
}

#[tokio::test]
async fn an_engine_that_hangs_is_neither_healthy_nor_ready() {
    let server = TestServer::with(|config, _| config.stall_timeout = Duration::from_millis(50)).await;
    server.gate.close();
    let open = server.send("/v1/chat/completions", &chat_body("hi", json!({ "stream": true }))).await;
    until_status(&server, "/ready", 503).await;
    let (status, answer) = server.get("/health").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("unhealthy")));
    assert!(answer["error"]["message"].as_str().unwrap().contains("no step"), "{answer}");
    server.gate.set_open();
    open.text().await.unwrap();
    until_status(&server, "/ready", 200).await;
}

#[tokio::test]
async fn an_engine_that_failed_says_so_everywhere() {
    let server = TestServer::start().await;
    let (status, answer) =
        server.post("/v1/chat/completions", &chat_body("BREAK THE ENGINE", json!({}))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (500, Some("engine_error")));
    for path in ["/health", "/ready"] {
        let (status, answer) = server.get(path).await;
        assert_eq!(status, 503, "{path}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("told to break"), "{answer}");
    }
    let (status, answer) = server.post("/v1/chat/completions", &chat_body("x", json!({}))).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("engine_failed")));
    assert_eq!(server.metric("vlinders_engine_up{model_name=\"parrot\",engine=\"0\"}").await, 0.0);
    let failed =
        "vlinders_request_success_total{model_name=\"parrot\",engine=\"0\",finished_reason=\"error\"}";
    assert_eq!(server.metric(failed).await, 1.0);
}

async fn until_status(server: &TestServer, path: &str, wanted: u16) {
    for _ in 0..2000 {
        if server.get(path).await.0 == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{path} never became {wanted}");
}

//! A server answers while its models are loaded, and serves each as soon as it is there.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use vlinders_server::{LoadingModel, ModelNames, Server, ServerConfig, ServerMetrics};

use crate::support::{Gate, HttpServer, MODEL, SIZES, chat_body, load_parrot, parrot_names, read};

const INFERENCE: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"];

/// A server of two models, of which none is loaded.
async fn start() -> (HttpServer, LoadingModel, LoadingModel) {
    let second = ModelNames { name: "late".into(), aliases: vec![] };
    let metrics = Arc::new(ServerMetrics::new());
    let (server, places) =
        Server::new(ServerConfig::default(), vec![parrot_names(), second], metrics).unwrap();
    let [first, second] = <[_; 2]>::try_from(places).unwrap();
    (HttpServer::start(server).await, first, second)
}

fn body(path: &str, model: &str) -> Value {
    match path {
        "/v1/chat/completions" => chat_body("hello", json!({ "model": model })),
        "/detokenize" => json!({ "model": model, "tokens": [104, 105] }),
        _ => json!({ "model": model, "prompt": "hello", "seed": 2 }),
    }
}

#[tokio::test]
async fn a_server_without_models_is_alive_and_says_what_it_does() {
    let (server, first, _second) = start().await;
    first.phase("weights");
    first.bytes(420, 1000);
    let loading = |name: &str, phase: &str, progress: f64| json!({ "name": name, "state": "loading", "phase": phase, "progress": progress });
    let models = json!([loading(MODEL, "weights", 0.42), loading("late", "waiting", 0.0)]);
    assert_eq!(server.get("/health").await, (200, json!({ "status": "loading", "models": models })));
    let (status, answer) = server.get("/ready").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("not_ready")));
    assert_eq!(
        answer["error"]["message"],
        "model 'parrot' is being loaded (weights, 42 %); model 'late' is being loaded (waiting)"
    );
    assert_eq!(server.get("/version").await.0, 200);
    assert_eq!(server.get("/openapi.json").await.0, 200);
    let series = |name: &str| format!("{name}{{model_name=\"parrot\",engine=\"0\"}}");
    assert_eq!(server.metric(&series("vlinders_engine_up")).await, 0.0);
    assert_eq!(server.metric(&series("vlinders_load_progress_ratio")).await, 0.42);

    let (status, list) = server.get("/v1/models").await;
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!((status, ids), (200, vec![MODEL, "org/parrot-small", "late"]));
    let (status, card) = server.get("/v1/models/late").await;
    assert_eq!((status, card["object"].as_str(), card.get("max_model_len")), (200, Some("model"), None));
}

#[tokio::test]
async fn requests_for_a_model_that_is_loading_are_told_to_come_back() {
    let (server, _first, _second) = start().await;
    for path in INFERENCE {
        for name in [MODEL, "org/parrot-small", "late"] {
            let response = server.send(path, &body(path, name)).await;
            assert_eq!(response.headers()["retry-after"], "5");
            let (status, answer) = read(response).await;
            let error = &answer["error"];
            assert_eq!((status, error["code"].as_str()), (503, Some("model_loading")), "{path}: {answer}");
            assert_eq!(error["type"], "server_error");
        }
        let (status, answer) = server.post(path, &body(path, "nobody")).await;
        assert_eq!((status, answer["error"]["code"].as_str()), (404, Some("model_not_found")), "{path}");
    }
    assert_eq!(server.metric("vlinders_requests_in_flight").await, 0.0);
}

#[tokio::test]
async fn each_model_is_served_as_soon_as_it_is_there() {
    let (server, first, second) = start().await;
    let gate = Gate::open();
    load_parrot(first, SIZES, &gate);
    for path in INFERENCE {
        let (status, answer) = server.post(path, &body(path, MODEL)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let (status, _) = server.post(path, &body(path, "late")).await;
        assert_eq!(status, 503, "{path}");
    }
    let (_, health) = server.get("/health").await;
    assert_eq!((&health["status"], &health["models"][0]["state"]), (&json!("loading"), &json!("ready")));
    let (status, answer) = server.get("/ready").await;
    assert_eq!(status, 503);
    assert_eq!(answer["error"]["message"], "model 'late' is being loaded (waiting)");
    assert_eq!(server.get("/v1/models/parrot").await.1["max_model_len"], 256);

    load_parrot(second, SIZES, &gate);
    assert_eq!(server.get("/ready").await.0, 200);
    assert_eq!(server.get("/health").await.1["status"], "ok");
    assert_eq!(server.post("/v1/chat/completions", &body("/v1/chat/completions", "late")).await.0, 200);
    let up = |name: &str| format!("vlinders_engine_up{{model_name=\"{name}\",engine=\"0\"}}");
    assert_eq!(server.metric(&up("late")).await, 1.0);
    assert_eq!(server.metric("vlinders_load_progress_ratio{model_name=\"late\",engine=\"0\"}").await, 1.0);
}

#[tokio::test]
async fn a_server_that_loads_stops_at_once_and_lets_running_answers_finish() {
    let (mut server, first, _second) = start().await;
    let gate = Gate::open();
    gate.close();
    let engine = load_parrot(first, SIZES, &gate);
    let body = chat_body("hello", json!({ "stream": true }));
    let running = server.send("/v1/chat/completions", &body).await;
    while engine.stats().running == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.stop();
    let reason = async || server.get("/ready").await.1["error"]["message"].as_str().unwrap().to_owned();
    while !reason().await.starts_with("the server is shutting down") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    gate.set_open();
    assert!(running.text().await.unwrap().ends_with("data: [DONE]\n\n"));
    assert!(server.stopped().await, "the answer was finished, the model that never came was not waited for");
    assert!(server.request(Method::GET, "/health").send().await.is_err(), "nobody listens");
}

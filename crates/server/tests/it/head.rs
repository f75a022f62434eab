//! What the head asks of a worker: its state, and what requests take.

use reqwest::Method;
use serde_json::{Value, json};
use vlinders_api::{ModelCondition, WorkerState};

use crate::support::{MODEL, TestServer, chat_body};

async fn state(server: &TestServer) -> WorkerState {
    let response = server.request(Method::GET, "/state").send().await.unwrap();
    response.json().await.unwrap()
}

#[tokio::test]
async fn the_state_says_what_routing_needs() {
    let server = TestServer::start().await;
    let before = state(&server).await;
    assert!(before.open && !before.instance.is_empty());
    let model = before.model("org/parrot-small").unwrap();
    assert_eq!((model.name.as_str(), model.condition), (MODEL, ModelCondition::Ready));
    assert_eq!((model.kv_tokens, model.ranks, model.max_model_len), (2048, 1, Some(256)));

    server.chat("some words", json!({})).await;
    server.until_idle().await;
    let after = state(&server).await;
    let (model, idle) = (after.model(MODEL).unwrap(), before.model(MODEL).unwrap());
    assert_eq!(after.instance, before.instance);
    assert!(model.steps > idle.steps && !model.has_work);
    assert_eq!((model.totals.finished, model.totals.aborted, model.totals.failed), (1, 0, 0));
    assert_eq!(model.totals.prompt_tokens, 13);
    assert_eq!(model.totals.generation_tokens, 11);
    assert_eq!(model.totals.first_token.counts.iter().sum::<u64>(), 1);
    assert_eq!(model.totals.between_tokens.counts.iter().sum::<u64>(), 10);
    assert_eq!(model.totals.first_token.counts.len(), model.totals.first_token.bounds.len() + 1);
}

#[tokio::test]
async fn the_state_shows_load_and_the_end() {
    let mut server = TestServer::start().await;
    server.gate.close();
    let body = chat_body("hold", json!({ "stream": true }));
    let running = server.send("/v1/chat/completions", &body).await;
    server.until("work", |stats| stats.running == 1).await;
    let loaded = state(&server).await;
    let model = loaded.model(MODEL).unwrap();
    assert!(model.has_work && model.kv_usage > 0.0);
    assert_eq!((loaded.in_flight, model.running), (1, 1));
    server.stop();
    let mut leaving = state(&server).await;
    while leaving.open {
        leaving = state(&server).await;
    }
    assert_eq!(leaving.model(MODEL).unwrap().condition, ModelCondition::Draining);
    server.gate.set_open();
    assert!(running.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_whole_answer_says_what_it_took_to_who_asks() {
    let server = TestServer::start().await;
    let body = chat_body("some words", json!({}));
    for asks in [false, true] {
        let mut request = server.request(Method::POST, "/v1/chat/completions").json(&body);
        if asks {
            request = request.header("x-vlinders-usage", "ask");
        }
        let response = request.send().await.unwrap();
        let told = response.headers().get("x-vlinders-usage").map(|value| value.to_str().unwrap().to_owned());
        let usage = response.json::<Value>().await.unwrap()["usage"].clone();
        let cached = &usage["prompt_tokens_details"]["cached_tokens"];
        let line = format!("usage {} {cached} {}", usage["prompt_tokens"], usage["completion_tokens"]);
        assert_eq!(told, asks.then_some(line));
    }
}

#[tokio::test]
async fn a_stream_says_what_it_took_so_far() {
    let server = TestServer::start().await;
    let body = chat_body("abc", json!({ "stream": true }));
    let ask = server.request(Method::POST, "/v1/chat/completions").header("x-vlinders-usage", "ask");
    let told = ask.json(&body).send().await.unwrap().text().await.unwrap();
    let reports: Vec<_> = told.lines().filter_map(|line| line.strip_prefix(": usage ")).collect();
    assert_eq!(reports.last(), Some(&"6 0 4"), "{told}");
    assert!(told.ends_with(": usage 6 0 4\n\ndata: [DONE]\n\n"), "{told}");
    // A client that does not ask sees nothing of it.
    assert!(!server.chat_stream("abc", json!({})).await.contains(": usage"));
}

#[tokio::test]
async fn the_dashboard_shows_what_runs_and_what_failed() {
    let server = TestServer::start().await;
    server.gate.allow(2);
    let body = chat_body("hold", json!({ "stream": true }));
    let asked =
        server.request(Method::POST, "/v1/chat/completions").header("x-request-id", "id-7").json(&body);
    let running = asked.send().await.unwrap();
    // Pages are of the second before.
    let shown = async |part: &str, wanted: &dyn Fn(&Value) -> bool| loop {
        let (status, snapshot) = server.get("/dashboard/api/snapshot").await;
        assert_eq!(status, 200);
        if wanted(&snapshot[part]) {
            return snapshot;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let snapshot = shown("requests", &|requests| requests[0]["stage"] == "decode").await;
    let request = &snapshot["requests"][0];
    assert_eq!((request["id"].as_str(), request["model"].as_str()), (Some("id-7"), Some(MODEL)));
    assert!(request["tokens"].as_u64().unwrap() >= 1, "{request}");
    assert_eq!(snapshot["workers"][0]["state"], "ready");
    server.gate.set_open();
    running.text().await.unwrap();
    shown("requests", &|requests| requests.as_array().unwrap().is_empty()).await;
    assert_eq!(server.post("/v1/chat/completions", &chat_body("BREAK THE ENGINE", json!({}))).await.0, 500);
    let snapshot = shown("errors", &|errors| errors[0]["status"] == 500).await;
    assert!(
        snapshot["errors"][0]["message"].as_str().unwrap().contains("could not be completed"),
        "{snapshot}"
    );
}

//! What the process does while a model is being loaded. A named pipe in place of a file makes the load last.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::{Server, http};

/// The built-in model, and a copy of it that can not be loaded before something is written into its tokenizer.
fn two_models() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow");
    fs::create_dir(&slow).unwrap();
    for (name, bytes) in vlinders_demo::FILES.iter().filter(|(name, _)| *name != "tokenizer.json") {
        fs::write(slow.join(name), bytes).unwrap();
    }
    assert!(Command::new("mkfifo").arg(pipe(folder.path())).status().unwrap().success());
    let models =
        "models:\n  - { name: fast, path: 'builtin:vlinders-demo' }\n  - { name: slow, path: slow }\n";
    fs::write(folder.path().join("models.yaml"), models).unwrap();
    folder
}

fn pipe(folder: &Path) -> std::path::PathBuf {
    folder.join("slow").join("tokenizer.json")
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    let response = http().get(format!("{}{path}", server.url)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Wait until the models are in these states.
async fn until(server: &Server, wanted: [&str; 2]) -> Value {
    loop {
        let (status, health) = get(server, "/health").await;
        assert_eq!(status, 200, "{health}");
        if (0..2).all(|i| health["models"][i]["state"] == wanted[i]) {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_model_is_served_while_the_other_is_loaded() {
    let server = Server::start_in(two_models(), "listening");
    // Weights do not wait for the tokenizer.
    let health = loop {
        let health = until(&server, ["ready", "loading"]).await;
        if health["models"][1]["phase"] == "tokenizer" {
            break health;
        }
    };
    assert_eq!((&health["status"], &health["models"][1]["progress"]), (&json!("loading"), &json!(1.0)));
    assert_eq!(get(&server, "/ready").await.0, 503);
    let url = format!("{}/v1/completions", server.url);
    let client = http();
    for (model, status) in [("fast", 200), ("slow", 503)] {
        let body = json!({ "model": model, "prompt": "two wings", "max_tokens": 4 });
        let response = client.post(&url).json(&body).send().await.unwrap();
        assert_eq!(response.status(), status, "{model}");
    }

    let tokenizer = vlinders_demo::FILES.iter().find(|(name, _)| *name == "tokenizer.json").unwrap().1;
    fs::write(pipe(server.folder()), tokenizer).unwrap();
    until(&server, ["ready", "ready"]).await;
    let (status, answer) = get(&server, "/ready").await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_signal_ends_it_in_the_middle_of_a_load() {
    for signal in ["TERM", "INT"] {
        let server = Server::start_in(two_models(), "listening");
        until(&server, ["ready", "loading"]).await;
        server.signal(signal);
        // The load would never end.
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log:?}");
    }
}

#[tokio::test]
async fn a_model_that_can_not_be_loaded_ends_a_server_that_serves_others() {
    let server = Server::start_in(two_models(), "listening");
    until(&server, ["ready", "loading"]).await;
    fs::write(pipe(server.folder()), "no tokenizer").unwrap();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log:?}");
    // Its weights are loaded at the same time, and may be heard of once more.
    let error = log.iter().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.starts_with("error: model 'slow'") && error.contains("tokenizer"), "{log:?}");
}

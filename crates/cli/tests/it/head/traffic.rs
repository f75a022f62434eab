//! Clients that never stop asking, behind a load balancer that looks at readiness as Kubernetes does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::process::http;

/// Tokens of each answer.
const TOKENS: usize = 12;

/// Between two looks at readiness.
const PROBE: Duration = Duration::from_millis(200);

/// Running clients.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
    balancer: JoinHandle<()>,
}

struct Shared {
    heads: Mutex<Vec<String>>,
    /// Those of them that are ready.
    ready: Mutex<Vec<String>>,
    answered: AtomicUsize,
    lost: Mutex<Vec<String>>,
    ends: AtomicBool,
}

impl Traffic {
    pub(crate) fn start(clients: usize, heads: Vec<String>) -> Self {
        let shared = Arc::new(Shared {
            ready: Mutex::new(heads.clone()),
            heads: Mutex::new(heads),
            answered: AtomicUsize::new(0),
            lost: Mutex::default(),
            ends: AtomicBool::new(false),
        });
        let balancer = tokio::spawn(balance(Arc::clone(&shared)));
        let http = http();
        let clients =
            (0..clients).map(|client| tokio::spawn(ask(Arc::clone(&shared), http.clone(), client))).collect();
        Self { shared, clients, balancer }
    }

    /// A further head is there.
    pub(crate) fn offer(&self, head: String) {
        self.shared.heads.lock().unwrap().push(head);
    }

    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Wait until this many streams have been answered.
    pub(crate) async fn until_answered(&self, count: usize) {
        while self.answered() < count {
            let lost = self.shared.lost.lock().unwrap().first().cloned();
            assert!(lost.is_none(), "after {} answers one was lost: {lost:?}", self.answered());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Let everybody finish; gives the number of answers, and what was lost.
    pub(crate) async fn stop(self) -> (usize, Vec<String>) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        self.balancer.abort();
        let lost = self.shared.lost.lock().unwrap().clone();
        (self.shared.answered.load(Ordering::SeqCst), lost)
    }
}

async fn balance(shared: Arc<Shared>) {
    let http = http();
    loop {
        let heads = shared.heads.lock().unwrap().clone();
        let mut ready = Vec::new();
        for head in heads {
            let answer = http.get(format!("{head}/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                ready.push(head);
            }
        }
        *shared.ready.lock().unwrap() = ready;
        tokio::time::sleep(PROBE).await;
    }
}

async fn ask(shared: Arc<Shared>, http: reqwest::Client, client: usize) {
    let mut number = 0;
    while !shared.ends.load(Ordering::SeqCst) {
        let ready = shared.ready.lock().unwrap().clone();
        let Some(head) = ready.get((client + number) % ready.len().max(1)) else {
            shared.lost.lock().unwrap().push("no head is ready".to_owned());
            return;
        };
        match stream(&http, head, client, number).await {
            Ok(()) => {
                shared.answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(why) => shared.lost.lock().unwrap().push(format!("client {client}, request {number}: {why}")),
        }
        number += 1;
    }
}

/// One stream; it must come whole.
async fn stream(http: &reqwest::Client, head: &str, client: usize, number: usize) -> Result<(), String> {
    let body = json!({
        "model": vlinders_demo::MODEL_NAME, "prompt": format!("client {client} asks {number}"), "stream": true,
        "stream_options": { "include_usage": true }, "max_tokens": TOKENS, "ignore_eos": true,
    });
    let asked = http.post(format!("{head}/v1/completions")).json(&body).send().await;
    let response = asked.map_err(|error| format!("{error:?}"))?;
    let status = response.status();
    let text = response.text().await.map_err(|error| format!("{error:?}"))?;
    if !status.is_success() || !text.ends_with("data: [DONE]\n\n") || text.contains("\"error\"") {
        return Err(format!("{status}: {text}"));
    }
    let usage = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let usage = usage.filter_map(|event| serde_json::from_str::<Value>(event).ok()).last();
    match usage.and_then(|event| event["usage"]["completion_tokens"].as_u64()) {
        Some(tokens) if tokens as usize == TOKENS => Ok(()),
        other => Err(format!("{other:?} tokens: {text}")),
    }
}

//! A worker made of nothing but HTTP: it says it is ready, and answers as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use vlinders_api::{ModelCondition, ModelState, WorkerState};

use super::MODEL;

/// What a worker does with a request.
pub(crate) enum Act {
    /// Answers with its name, in full or as a stream of three events, whichever is asked for.
    Answer,
    /// Answers with this status and code.
    Refuse(u16, &'static str),
    /// Closes the connection without a word.
    Hang,
    /// Sends the head of a stream and these bytes, then closes the connection.
    Cut(&'static str),
    /// Takes the request and never answers.
    Silence,
    /// Streams what the test sends, until its end of the channel is dropped.
    Told(mpsc::Receiver<&'static str>),
}

/// A worker; it ends with the value.
pub(crate) struct MockWorker {
    pub(crate) address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    name: &'static str,
    /// What it does with the next requests; after them it answers.
    acts: Mutex<VecDeque<Act>>,
    state: Mutex<WorkerState>,
    seen: Mutex<Vec<(HeaderMap, Bytes)>>,
    /// Connections are closed.
    cut: Notify,
    /// It does not say how it is.
    frozen: AtomicBool,
    /// A client of its has left before the end.
    left: Mutex<usize>,
}

impl MockWorker {
    pub(crate) async fn start(name: &'static str) -> Self {
        Self::at("127.0.0.1:0", name).await
    }

    /// At a certain address.
    pub(crate) async fn at(address: &str, name: &'static str) -> Self {
        let model = ModelState {
            name: MODEL.into(),
            condition: ModelCondition::Ready,
            max_model_len: Some(256),
            kv_tokens: 1 << 20,
            ranks: 1,
            ..ModelState::default()
        };
        let state =
            WorkerState { instance: name.into(), open: true, models: vec![model], ..WorkerState::default() };
        let shared = Arc::new(Shared {
            name,
            acts: Mutex::default(),
            state: Mutex::new(state),
            seen: Mutex::default(),
            cut: Notify::new(),
            frozen: AtomicBool::new(false),
            left: Mutex::default(),
        });
        let router = Router::new()
            .route("/state", get(say))
            .route("/v1/chat/completions", post(answer))
            .route("/tokenize", post(answer))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, task }
    }

    /// What it does with the next requests, in order.
    pub(crate) fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.shared.acts.lock().unwrap().extend(acts);
    }

    /// Change what it says of itself.
    pub(crate) fn says(&self, change: impl FnOnce(&mut WorkerState)) {
        change(&mut self.shared.state.lock().unwrap());
    }

    /// Let it say nothing of itself any more, as a process that is stopped.
    pub(crate) fn freeze(&self) {
        self.shared.frozen.store(true, Ordering::SeqCst);
    }

    /// How many requests it has got.
    pub(crate) fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Headers and body of the last request.
    pub(crate) fn last(&self) -> (HeaderMap, Bytes) {
        self.shared.seen.lock().unwrap().last().unwrap().clone()
    }

    /// Wait until somebody has left in the middle of a stream.
    pub(crate) async fn until_left(&self) {
        while *self.shared.left.lock().unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for MockWorker {
    fn drop(&mut self) {
        self.shared.cut.notify_waiters();
        self.task.abort();
    }
}

/// Notices when the stream it is in is dropped before its end.
struct Leave(Arc<Shared>);

impl Leave {
    /// The end has come first.
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap() += 1;
    }
}

async fn say(State(shared): State<Arc<Shared>>) -> Json<WorkerState> {
    if shared.frozen.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let state = shared.state.lock().unwrap().clone();
    Json(state)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    shared.seen.lock().unwrap().push((parts.headers, body.clone()));
    let act = shared.acts.lock().unwrap().pop_front().unwrap_or(Act::Answer);
    let stream = serde_json::from_slice::<serde_json::Value>(&body).unwrap()["stream"] == true;
    match act {
        Act::Answer if stream => sse(Body::from(transcript(shared.name))),
        Act::Answer => {
            let usage = [("x-vlinders-usage", "usage 6 4 3")];
            (usage, Json(json!({ "worker": shared.name }))).into_response()
        }
        Act::Refuse(status, code) => {
            let body =
                json!({ "error": { "message": code, "type": "server_error", "param": null, "code": code } });
            (StatusCode::from_u16(status).unwrap(), [("retry-after", "7")], Json(body)).into_response()
        }
        // The task of the connection ends with a panic, and the connection with it.
        Act::Hang => panic!("a worker that closes connections, as it was told"),
        Act::Cut(bytes) => {
            // The connection must have sent the bytes before it breaks, or they are lost with it.
            let pieces = futures::stream::unfold(Some(bytes), |bytes| async move {
                if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                    return Some((Ok(Bytes::from_static(bytes.as_bytes())), Some("")));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                Some((Err(std::io::Error::other("cut")), None))
            });
            sse(Body::from_stream(pieces))
        }
        Act::Silence => std::future::pending().await,
        Act::Told(told) => {
            let leave = Leave(Arc::clone(&shared));
            let pieces = futures::stream::unfold((told, leave), |(mut told, leave)| async move {
                let Some(piece) = told.recv().await else {
                    leave.end();
                    return None;
                };
                Some((Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())), (told, leave)))
            });
            sse(Body::from_stream(pieces))
        }
    }
}

fn transcript(name: &str) -> String {
    format!(
        "data: {{\"a\":1}}\n\n: usage 6 4 1\n\ndata: {{\"worker\":\"{name}\"}}\n\n: usage 6 4 3\n\ndata: [DONE]\n\n"
    )
}

fn sse(body: Body) -> Response {
    ([("content-type", "text/event-stream"), ("x-accel-buffering", "no")], body).into_response()
}

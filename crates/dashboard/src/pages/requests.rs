//! The requests that are queued or running.

use askama::Template;

use crate::format::duration;
use crate::source::{SHOWN_REQUESTS, Snapshot};

/// Content of the page.
#[derive(Template)]
#[template(path = "requests.html")]
pub(crate) struct RequestsLive {
    rows: Vec<RequestRow>,
    is_full: bool,
}

struct RequestRow {
    id: String,
    model: String,
    consumer: String,
    worker: String,
    age: String,
    stage: &'static str,
    tokens: u64,
}

// === impl RequestsLive ===

impl RequestsLive {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let rows = snapshot.requests.iter().map(|request| RequestRow {
            id: request.id.clone(),
            model: request.model.clone(),
            consumer: request.consumer.clone(),
            worker: request.worker.clone().unwrap_or_else(|| "none yet".to_owned()),
            age: duration(request.age),
            stage: request.stage.word(),
            tokens: request.tokens,
        });
        Self { rows: rows.collect(), is_full: snapshot.requests.len() >= SHOWN_REQUESTS }
    }
}

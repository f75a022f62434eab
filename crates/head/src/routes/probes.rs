//! `GET /health`, `/ready`, `/metrics`, `/queue` and `/version`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use vlinders_edge::{ApiError, METRICS_CONTENT_TYPE};

use crate::head::Head;
use crate::model::Model;
use crate::peers::QueueState;

/// The process lives, and this is how many workers each model has.
pub(crate) async fn health(State(head): State<Head>) -> Json<Value> {
    Json(json!({ "status": "ok", "models": models(&head) }))
}

/// 200 while new requests are taken, once the workers that are there have been asked. A head without workers is ready: requests wait in it until one comes.
pub(crate) async fn ready(State(head): State<Head>) -> Result<Json<Value>, ApiError> {
    if head.leaving().is_cancelled() {
        let message = "the server is shutting down";
        return Err(ApiError::unavailable(message, "not_ready", head.config().retry_after));
    }
    if !head.fleet().settled().is_cancelled() {
        let message = "the workers are being asked for the first time";
        return Err(ApiError::unavailable(message, "not_ready", head.config().retry_after));
    }
    Ok(Json(json!({ "status": "ready", "models": models(&head) })))
}

/// All series, as they are at this moment.
pub(crate) async fn render_metrics(State(head): State<Head>) -> Response {
    for model in head.fleet().models() {
        let (ready, all) = (model.num_routable(), model.replicas().len());
        // A worker that has come in between is one that is ready.
        head.metrics().show_model(&model.offer.name, ready, all.max(ready), model.num_prefix_blocks());
    }
    let text = head.metrics().render(head.admission().in_flight(), head.bodies().bytes_held());
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response()
}

/// The requests that wait here, for other heads.
pub(crate) async fn queue(State(head): State<Head>) -> Json<QueueState> {
    Json(head.queue())
}

/// The version of this program.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

fn models(head: &Head) -> Vec<Value> {
    let show = |model: &Arc<Model>| {
        json!({
            "name": &*model.offer.name, "workers": model.replicas().len(), "ready": model.num_routable(),
            "queued": model.num_waiting(),
        })
    };
    head.fleet().models().iter().map(show).collect()
}

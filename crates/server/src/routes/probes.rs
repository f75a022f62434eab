//! `GET /health`, `/ready` and `/version`: whether the process lives, and whether it should get requests.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use vlinders_edge::ApiError;

use crate::server::{Condition, Server};

/// 200 unless a model has failed or stands still: then a restart is what helps.
pub(crate) async fn health(State(server): State<Server>) -> Result<Response, ApiError> {
    let conditions = server.conditions();
    let sick = |condition: &Condition| matches!(condition, Condition::Failed(_) | Condition::Stalled(_));
    if conditions.iter().any(sick) {
        return Err(trouble(&server, &conditions, "unhealthy"));
    }
    Ok(Json(json!({ "status": "ok", "models": models(&server, &conditions) })).into_response())
}

/// 200 while new requests are taken and every model goes on.
pub(crate) async fn ready(State(server): State<Server>) -> Result<Response, ApiError> {
    let conditions = server.conditions();
    if !server.is_open() || conditions.iter().any(|condition| *condition != Condition::Ready) {
        return Err(trouble(&server, &conditions, "not_ready"));
    }
    Ok(Json(json!({ "status": "ready", "models": models(&server, &conditions) })).into_response())
}

/// The version of this program.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") }))
}

fn trouble(server: &Server, conditions: &[Condition], code: &'static str) -> ApiError {
    let mut reasons: Vec<String> = Vec::new();
    if !server.is_open() {
        reasons.push("the server is shutting down".to_owned());
    }
    for (model, condition) in server.models().iter().zip(conditions) {
        let name = model.name();
        match condition {
            Condition::Ready => {}
            Condition::Draining => reasons.push(format!("model '{name}' takes no new requests")),
            Condition::Stalled(time) => {
                reasons.push(format!("model '{name}' has work and no step for {} s", time.as_secs()));
            }
            Condition::Failed(why) => reasons.push(format!("model '{name}' has failed: {why}")),
        }
    }
    ApiError::unavailable(reasons.join("; "), code, server.config().retry_after)
}

fn models(server: &Server, conditions: &[Condition]) -> Value {
    let word = |condition: &Condition| match condition {
        Condition::Ready => "ready",
        Condition::Draining => "draining",
        Condition::Stalled(_) => "stalled",
        Condition::Failed(_) => "failed",
    };
    let pairs = server.models().iter().zip(conditions);
    pairs.map(|(model, condition)| json!({ "name": model.name(), "state": word(condition) })).collect()
}

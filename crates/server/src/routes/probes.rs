//! `GET /health`, `/ready` and `/version`: whether the process lives, and whether it should get requests.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use vlinders_edge::ApiError;

use crate::server::Server;
use crate::slot::Condition;

/// 200 unless a model has failed or stands still: then a restart is what helps. A server that loads is alive.
pub(crate) async fn health(State(server): State<Server>) -> Result<Response, ApiError> {
    let conditions = server.conditions();
    let sick = |condition: &Condition| matches!(condition, Condition::Failed(_) | Condition::Stalled(_));
    if conditions.iter().any(sick) {
        return Err(trouble(&server, &conditions, "unhealthy"));
    }
    let loads = conditions.iter().any(|condition| matches!(condition, Condition::Loading(_)));
    let status = if loads { "loading" } else { "ok" };
    Ok(Json(json!({ "status": status, "models": models(&server, &conditions) })).into_response())
}

/// 200 while new requests are taken and every model is loaded and goes on.
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
    for (slot, condition) in server.slots().iter().zip(conditions) {
        let name = &slot.names().name;
        match condition {
            Condition::Ready => {}
            Condition::Loading(status) => reasons.push(format!("model '{name}' is being loaded ({status})")),
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
    let show = |name: &str, condition: &Condition| {
        let state = |word: &str| json!({ "name": name, "state": word });
        match condition {
            Condition::Loading(status) => json!({
                "name": name, "state": "loading", "phase": status.phase,
                "progress": (status.ratio() * 1e3).round() / 1e3,
            }),
            Condition::Ready => state("ready"),
            Condition::Draining => state("draining"),
            Condition::Stalled(_) => state("stalled"),
            Condition::Failed(_) => state("failed"),
        }
    };
    let pairs = server.slots().iter().zip(conditions);
    pairs.map(|(slot, condition)| show(&slot.names().name, condition)).collect()
}

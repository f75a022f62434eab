//! A chat API without a model.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use vlinders_edge::{ApiError, ApiKeys};

use crate::made_up::MODELS;

/// `/v1/models` and `/v1/chat/completions`, with a key if there is one.
pub(crate) fn router(key: Option<String>) -> Router {
    let keys = key.and_then(|key| ApiKeys::parse(&key).ok());
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .layer(middleware::from_fn_with_state(keys, ApiKeys::guard))
}

async fn models() -> Json<Value> {
    let data =
        MODELS.map(|name| json!({"id": name, "object": "model", "created": 0, "owned_by": "vlinders"}));
    Json(json!({"object": "list", "data": data.to_vec()}))
}

async fn complete(Json(body): Json<Value>) -> Result<Response, ApiError> {
    let model = body["model"].as_str().unwrap_or_default().to_owned();
    if !MODELS.contains(&model.as_str()) {
        return Err(ApiError::model_not_found(&model, &MODELS));
    }
    let asked = body["messages"].as_array().and_then(|all| all.last()?["content"].as_str()).unwrap_or("");
    if asked.contains("overload") {
        let wait = Duration::from_secs(7);
        return Err(ApiError::too_many("the queue of this model is full", "queue_full", wait));
    }
    let most = body["max_tokens"].as_u64().unwrap_or(512) as usize;
    let text = format!(
        "You said: {asked}\nNothing here is a model; <b>these words</b> only show how an answer comes in, one after the other, until they end."
    );
    let words: Vec<String> = text.split_inclusive(' ').take(most).map(str::to_owned).collect();
    let count = words.len();
    let shown = Arc::new(model);
    let chunks = stream::iter(words).then(move |word| {
        let model = Arc::clone(&shown);
        async move {
            tokio::time::sleep(Duration::from_millis(40)).await;
            json!({"object": "chat.completion.chunk", "model": *model, "choices": [{"index": 0, "delta": {"content": word}}]})
                .to_string()
        }
    });
    let end = [
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).to_string(),
        json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": count}}).to_string(),
        "[DONE]".to_owned(),
    ];
    let events = chunks.chain(stream::iter(end)).map(|data| Ok::<_, Infallible>(Event::default().data(data)));
    Ok(Sse::new(events).into_response())
}

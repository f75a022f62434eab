//! Which path goes where, and through which layers.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use vlinders_dashboard::{Dashboard, DashboardOptions};
use vlinders_edge::{
    AccessLog, ApiKeys, access_log, browser_credentials, catch_panics, cors, method_not_allowed, not_found,
};

use crate::openapi::openapi;
use crate::routes::{
    chat_completions, completions, detokenize, get_model, health, list_models, ready, render_metrics, state,
    tokenize, version,
};
use crate::server::Server;

/// Asked every few seconds by the platform.
const QUIET: &[&str] = &["/health", "/ready", "/metrics", "/state"];

/// The whole API of a server, and its dashboard. To be called inside a tokio runtime.
pub fn router(server: Server) -> Router {
    let keys = server.config().api_keys.clone();
    let guarded = Router::new()
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/completions", post(completions))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(get_model))
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/state", get(state))
        .route_layer(from_fn_with_state(keys.clone(), ApiKeys::guard));
    let open = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(render_metrics))
        .route("/version", get(version))
        .route("/openapi.json", get(openapi));
    let options = DashboardOptions { api_needs_key: keys.is_some(), ..DashboardOptions::default() };
    let pages = Dashboard::new(Arc::new(server.clone()), options).router();
    let pages = pages
        .layer(from_fn_with_state(keys.clone(), ApiKeys::guard))
        .layer(from_fn(browser_credentials))
        .with_state(());
    let log = AccessLog::new(server.metrics().registry().clone(), QUIET);
    let cors = cors(&server.config().cors);
    let router = guarded
        .merge(open)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(server)
        .merge(pages)
        .layer(catch_panics());
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(from_fn_with_state(log, access_log))
}

//! Which path goes where, and through which layers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::{get, post};
use http::HeaderValue;
use http::header::CONNECTION;
use vlinders_dashboard::{Dashboard, DashboardOptions};
use vlinders_edge::{
    AccessLog, ApiError, access_log, browser_credentials, catch_panics, cors, method_not_allowed, not_found,
};

use crate::head::Head;
use crate::routes::{forward, get_model, health, list_models, queue, ready, render_metrics, version};

/// Asked every few seconds by the platform.
const QUIET: &[&str] = &["/health", "/ready", "/metrics", "/queue"];

/// Routes whose requests go to a worker.
const FORWARDED: [&str; 4] = ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"];

/// The whole API of a head, and its pages: the playground asks the API at the same address.
pub(crate) fn dashboard_router(head: Head) -> Router {
    let options =
        DashboardOptions { api_needs_key: !head.authenticator().is_open(), ..DashboardOptions::default() };
    let pages = Dashboard::new(Arc::new(head.clone()), options).router();
    let pages = pages
        .route("/", get(async || Redirect::temporary("dashboard/")))
        .layer(from_fn_with_state(head.clone(), identify))
        .layer(from_fn(browser_credentials))
        .layer(catch_panics());
    router(head).merge(pages)
}

/// The whole API of a head.
pub fn router(head: Head) -> Router {
    let mut guarded = Router::new();
    for path in FORWARDED {
        let handler = move |state: State<Head>, request: Request| forward(state, path, request);
        guarded = guarded.route(path, post(handler));
    }
    let guarded = guarded
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*id}", get(get_model))
        .route_layer(from_fn_with_state(head.clone(), identify));
    let open = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(render_metrics))
        .route("/queue", get(queue))
        .route("/version", get(version));
    let log = AccessLog::new(head.metrics().registry().clone(), QUIET);
    let cors = cors(&head.config().cors);
    let router = guarded
        .merge(open)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(head.clone())
        .layer(catch_panics());
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(from_fn_with_state(head, let_go)).layer(from_fn_with_state(log, access_log))
}

/// Find out who asks, before anything of the request is read.
async fn identify(State(head): State<Head>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let consumer = head.authenticator().identify(request.headers())?;
    request.extensions_mut().insert(consumer);
    Ok(next.run(request).await)
}

/// A head that is about to leave lets go of its connections, so that clients open the next one elsewhere.
async fn let_go(State(head): State<Head>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if head.leaving().is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

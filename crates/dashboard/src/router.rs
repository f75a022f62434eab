//! Which path shows what, and the headers of every answer.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Json, Redirect, Response};
use axum::routing::get;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, Uri};
use serde::Deserialize;
use vlinders_edge::{ApiError, ErrorKind};

use crate::assets::asset;
use crate::dashboard::Shared;
use crate::pages::{
    ErrorsLive, OverviewLive, Page, Playground, RequestsLive, Shown, WorkersLive, nowhere, render,
};
use crate::range::Range;
use crate::source::Snapshot;
use crate::wire::HistoryView;

type App = State<Arc<Shared>>;
type Answer = Result<Html<String>, ApiError>;

/// Nothing comes from elsewhere, nothing is inline, nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
];

/// What may be asked of a page.
#[derive(Debug, Default, Deserialize)]
struct Asked {
    range: Option<String>,
    model: Option<String>,
}

/// All routes below the base path.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let base = shared.options.base_path.clone();
    let at = |path: &str| format!("{base}/{path}");
    let mut router = Router::new()
        .route(&at(""), get(overview))
        .route(&at("workers"), get(workers))
        .route(&at("requests"), get(requests))
        .route(&at("errors"), get(errors))
        .route(&at("playground"), get(playground))
        .route(&at("fragment/overview"), get(overview_fragment))
        .route(&at("fragment/workers"), get(workers_fragment))
        .route(&at("fragment/requests"), get(requests_fragment))
        .route(&at("fragment/errors"), get(errors_fragment))
        .route(&at("api/snapshot"), get(snapshot))
        .route(&at("api/history"), get(history))
        .route(&at("assets/{name}"), get(asset));
    if let Some((_, last)) = base.rsplit_once('/') {
        // relative links count from the last slash, so there has to be one
        let with_slash = format!("{last}/");
        router = router
            .route(&base, get(move || async move { Redirect::permanent(&with_slash) }))
            .route(&at("{*rest}"), get(no_page));
    }
    router
        .method_not_allowed_fallback(vlinders_edge::method_not_allowed)
        .layer(map_response(guarded))
        .with_state(shared)
}

/// Live pages are not kept anywhere; assets say themselves how long they are.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn overview(State(shared): App, Query(asked): Query<Asked>) -> Answer {
    let shown = asked.shown();
    let snapshot = shared.snapshot();
    let fragment = format!("fragment/overview{}", shown.query());
    let content = render(&OverviewLive::new(&snapshot, &shared.history(), &shown))?;
    Page::Overview.framed(&snapshot, Some(&fragment), &content).map(Html)
}

async fn overview_fragment(State(shared): App, Query(asked): Query<Asked>) -> Answer {
    render(&OverviewLive::new(&shared.snapshot(), &shared.history(), &asked.shown())).map(Html)
}

async fn workers(State(shared): App) -> Answer {
    let snapshot = shared.snapshot();
    live(Page::Workers, &snapshot, "fragment/workers", &render(&WorkersLive::new(&snapshot))?)
}

async fn workers_fragment(State(shared): App) -> Answer {
    render(&WorkersLive::new(&shared.snapshot())).map(Html)
}

async fn requests(State(shared): App) -> Answer {
    let snapshot = shared.snapshot();
    live(Page::Requests, &snapshot, "fragment/requests", &render(&RequestsLive::new(&snapshot))?)
}

async fn requests_fragment(State(shared): App) -> Answer {
    render(&RequestsLive::new(&shared.snapshot())).map(Html)
}

async fn errors(State(shared): App) -> Answer {
    let snapshot = shared.snapshot();
    live(Page::Errors, &snapshot, "fragment/errors", &render(&ErrorsLive::new(&snapshot))?)
}

async fn errors_fragment(State(shared): App) -> Answer {
    render(&ErrorsLive::new(&shared.snapshot())).map(Html)
}

async fn playground(State(shared): App) -> Answer {
    let snapshot = shared.snapshot();
    // pages lie one folder below each segment of the base path
    let up = "../".repeat(shared.options.base_path.matches('/').count());
    let content = render(&Playground::new(&snapshot, shared.options.api_needs_key, &up))?;
    Page::Playground.framed(&snapshot, None, &content).map(Html)
}

async fn snapshot(State(shared): App) -> Response {
    Json(&*shared.snapshot()).into_response()
}

async fn history(State(shared): App, Query(asked): Query<Asked>) -> Result<Response, ApiError> {
    let range = asked.range.as_deref().map_or(Ok(Range::Hour), |text| {
        let message = || ApiError::invalid("range", "range has to be 5m, 15m or 1h");
        Range::parse(text).ok_or_else(message)
    })?;
    let view = HistoryView::new(&shared.history(), range, asked.model.as_deref());
    Ok(Json(view).into_response())
}

async fn no_page(State(shared): App, method: Method, uri: Uri) -> Result<Response, ApiError> {
    let is_page = !["api/", "assets/", "fragment/"].iter().any(|below| {
        uri.path().strip_prefix(&shared.options.base_path).is_some_and(|path| path[1..].starts_with(below))
    });
    // relative links of the page would point elsewhere from deeper down
    let depth = uri.path().matches('/').count() - shared.options.base_path.matches('/').count();
    if is_page && depth == 1 {
        let page = Html(nowhere(&shared.snapshot())?);
        return Ok((ErrorKind::NotFound.status(), page).into_response());
    }
    Err(vlinders_edge::not_found(method, uri).await)
}

fn live(page: Page, snapshot: &Snapshot, fragment: &str, content: &str) -> Answer {
    page.framed(snapshot, Some(fragment), content).map(Html)
}

// === impl Asked ===

impl Asked {
    /// A page is shown whatever was asked: a link that is out of date is no reason for an error.
    fn shown(&self) -> Shown {
        let range = self.range.as_deref().and_then(Range::parse).unwrap_or(Range::QuarterHour);
        Shown { range, model: self.model.clone().filter(|name| !name.is_empty()) }
    }
}

//! `GET /openapi.json`: the description of this API, kept by hand and compared with the code in tests.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

/// The document, as served.
const DOCUMENT: &str = include_str!("openapi.json");

/// The description of this API.
pub(crate) async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests;

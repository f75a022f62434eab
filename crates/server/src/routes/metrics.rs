//! `GET /metrics`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use vlinders_edge::METRICS_CONTENT_TYPE;

use crate::server::Server;

/// All series, as they are at this moment.
pub(crate) async fn render_metrics(State(server): State<Server>) -> Response {
    let models = server.served().map(|model| (&*model.metrics, model.engine.stats()));
    let text = server.metrics().render(server.admission().in_flight(), server.bodies().bytes_held(), models);
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response()
}

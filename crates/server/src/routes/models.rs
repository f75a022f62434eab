//! `GET /v1/models` and `GET /v1/models/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use vlinders_api::{ModelCard, ModelList};
use vlinders_edge::ApiError;

use crate::model::ServedModel;
use crate::server::Server;

/// All names that may be asked for.
pub(crate) async fn list_models(State(server): State<Server>) -> Response {
    let cards =
        server.models().iter().flat_map(|model| model.names().map(|name| card(model, name))).collect();
    Json(ModelList::new(cards)).into_response()
}

/// One of them; names may have slashes.
pub(crate) async fn get_model(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let model = server.model(Some(&id))?;
    Ok(Json(card(model, &id)).into_response())
}

fn card<'a>(model: &'a ServedModel, name: &'a str) -> ModelCard<'a> {
    ModelCard::new(name, model.name(), model.created, model.settings.max_model_len)
}

//! `GET /v1/models` and `GET /v1/models/{id}`: what is offered, whether or not a worker is there.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use vlinders_api::{ModelCard, ModelList};
use vlinders_edge::ApiError;

use crate::head::Head;
use crate::model::Model;

/// All names that may be asked for.
pub(crate) async fn list_models(State(head): State<Head>) -> Response {
    let models = head.fleet().models();
    let cards = models.iter().flat_map(|model| model.names().map(|name| card(model, name)));
    Json(ModelList::new(cards.collect())).into_response()
}

/// One of them; names may have slashes.
pub(crate) async fn get_model(
    State(head): State<Head>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let model = head.fleet().model(Some(&id))?;
    Ok(Json(card(&model, &id)).into_response())
}

fn card<'a>(model: &'a Model, name: &'a str) -> ModelCard<'a> {
    ModelCard::new(name, &model.offer.name, model.created, model.max_model_len())
}

//! `GET /v1/models` and `GET /v1/models/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use vlinders_api::{ModelCard, ModelList};
use vlinders_edge::ApiError;

use crate::server::Server;
use crate::slot::Slot;

/// All names that may be asked for, those of models that are still being loaded too.
pub(crate) async fn list_models(State(server): State<Server>) -> Response {
    let cards = server.slots().iter().flat_map(|slot| slot.names().all().map(|name| card(slot, name)));
    Json(ModelList::new(cards.collect())).into_response()
}

/// One of them; names may have slashes.
pub(crate) async fn get_model(
    State(server): State<Server>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let slot = server.slot(&id)?;
    Ok(Json(card(slot, &id)).into_response())
}

fn card<'a>(slot: &'a Slot, name: &'a str) -> ModelCard<'a> {
    let max_model_len = slot.served().map(|model| model.settings.max_model_len);
    ModelCard::new(name, &slot.names().name, slot.created(), max_model_len)
}

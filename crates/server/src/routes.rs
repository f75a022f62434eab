//! The routes, one file each, and what their answers have in common.

mod chat;
mod completions;
mod metrics;
mod models;
mod probes;
mod state;
mod tokenize;

use std::sync::Arc;
use std::time::Instant;

use vlinders_edge::{Listed, RequestId, Running};

use crate::model::{ServedModel, now};
use crate::server::Server;

pub(crate) use self::{
    chat::chat_completions,
    completions::completions,
    metrics::render_metrics,
    models::{get_model, list_models},
    probes::{health, ready, version},
    state::state,
    tokenize::{detokenize, tokenize},
};

/// Put a request for `model` into the list of those that run.
pub(crate) fn list(server: &Server, id: Option<RequestId>, model: &ServedModel, arrival: Instant) -> Listed {
    let id = id.as_ref().map_or("", RequestId::as_str).to_owned();
    server.running().list(Running::new(id, "anybody".into(), model.name().into(), arrival))
}

/// What every answer and every chunk of it repeats.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: Arc<ServedModel>,
}

impl Envelope {
    /// For a new answer of `model`; `prefix` is that of its id.
    pub(crate) fn new(prefix: &str, model: &Arc<ServedModel>) -> Self {
        let id = format!("{prefix}-{}", uuid::Uuid::new_v4().simple());
        Self { id, created: now(), model: Arc::clone(model) }
    }
}

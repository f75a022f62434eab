//! The playground: a chat with a model, through the API that everybody uses.

use askama::Template;

use crate::source::Snapshot;

/// Content of the page.
#[derive(Template)]
#[template(path = "playground.html")]
pub(crate) struct Playground {
    models: Vec<String>,
    needs_key: bool,
    /// Where chat completions are, relative to the page.
    completions: String,
}

// === impl Playground ===

impl Playground {
    pub(crate) fn new(snapshot: &Snapshot, needs_key: bool, api: &str) -> Self {
        Self {
            models: snapshot.models.iter().map(|model| model.name.clone()).collect(),
            needs_key,
            completions: format!("{api}v1/chat/completions"),
        }
    }
}

//! `GET /v1/models`.

use serde::Serialize;

/// The models that are served.
#[derive(Debug, Clone, Serialize)]
pub struct ModelList<'a> {
    /// Always `list`.
    pub object: &'static str,
    /// One card for each name, aliases included.
    pub data: Vec<ModelCard<'a>>,
}

/// A name that clients may ask for.
#[derive(Debug, Clone, Serialize)]
pub struct ModelCard<'a> {
    /// The name.
    pub id: &'a str,
    /// Always `model`.
    pub object: &'static str,
    /// Since when the server offers it, seconds since 1970.
    pub created: u64,
    /// Always `vlinders`.
    pub owned_by: &'static str,
    /// The name this one is an alias of; itself if it is none.
    pub root: &'a str,
    /// Always null: no model here is derived from another one served.
    pub parent: Option<&'a str>,
    /// The most tokens of prompt and answer together; left out while the model is being loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_model_len: Option<usize>,
}

// === impl ModelList ===

impl<'a> ModelList<'a> {
    /// A list of cards.
    #[must_use]
    pub fn new(data: Vec<ModelCard<'a>>) -> Self {
        Self { object: "list", data }
    }
}

// === impl ModelCard ===

impl<'a> ModelCard<'a> {
    /// The card of `id`, which is `root` or an alias of it.
    #[must_use]
    pub fn new(id: &'a str, root: &'a str, created: u64, max_model_len: Option<usize>) -> Self {
        Self { id, object: "model", created, owned_by: "vlinders", root, parent: None, max_model_len }
    }
}

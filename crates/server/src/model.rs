//! A model as the API sees it: names, engine, text, limits.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use vlinders_engine::{EngineHandle, Limits};
use vlinders_text::TextModel;

use crate::metrics::{ModelMetrics, ServerMetrics};

/// What is known of a model apart from its engine and its text.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// The name clients ask for, and the one answers and metrics carry.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Names weights, kernels and configuration; `system_fingerprint` of answers.
    pub fingerprint: String,
    /// Prompt and answer together, in tokens.
    pub max_model_len: usize,
    /// Rows of the model's output; ids are below it.
    pub vocab_size: usize,
    /// How the model writes tool calls; with `None` they stay text.
    pub tool_parser: Option<ToolParser>,
}

/// A way to write tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolParser {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write.
    Hermes,
}

/// A model that is served.
pub struct ServedModel {
    pub(crate) settings: ModelSettings,
    pub(crate) engine: EngineHandle,
    pub(crate) text: Arc<TextModel>,
    pub(crate) metrics: Arc<ModelMetrics>,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// Bytes of the longest token: a text of more than this times the context can not fit.
    longest_token: usize,
}

// === impl ServedModel ===

impl ServedModel {
    /// Serve `engine` and `text` under the names of `settings`.
    #[must_use]
    pub fn new(
        settings: ModelSettings,
        engine: EngineHandle,
        text: Arc<TextModel>,
        metrics: &ServerMetrics,
    ) -> Self {
        let ids = 0..u32::try_from(text.vocab_size()).unwrap_or(u32::MAX);
        let longest_token = ids.map(|id| text.token_bytes(id).len()).max().unwrap_or(1).max(1);
        let metrics = metrics.model(&settings.name, engine.config());
        Self { settings, engine, text, metrics, created: now(), longest_token }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Name and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.settings.name).chain(&self.settings.aliases).map(String::as_str)
    }

    pub(crate) fn limits(&self, max_logprobs: usize) -> Limits {
        Limits {
            max_model_len: self.settings.max_model_len,
            vocab_size: self.settings.vocab_size,
            max_logprobs,
        }
    }

    /// Tokens an answer may have after a prompt: the rest of the context, or of the cache where that is smaller.
    /// The last token of an answer takes no place in the cache.
    pub(crate) fn room(&self, prompt_tokens: usize) -> usize {
        let config = self.engine.config();
        let cache = config.num_blocks.saturating_mul(config.block_size).saturating_add(1);
        self.settings.max_model_len.min(cache).saturating_sub(prompt_tokens)
    }

    /// The least number of tokens that a text of this length has.
    pub(crate) fn least_tokens(&self, bytes: usize) -> usize {
        bytes / self.longest_token
    }
}

impl std::fmt::Debug for ServedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServedModel").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

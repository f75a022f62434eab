//! A model as the API sees it: names, engine, text, limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vlinders_engine::{EngineHandle, EngineState, Limits};
use vlinders_text::TextModel;

use crate::metrics::{ModelMetrics, ServerMetrics};
use crate::progress::Progress;
use crate::slot::Condition;

/// What clients call a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelNames {
    /// The one that answers and metrics carry.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
}

/// What is known of a loaded model apart from its engine and its text.
#[derive(Debug, Clone)]
pub struct ModelSettings {
    /// Names weights, kernels and configuration; `system_fingerprint` of answers.
    pub fingerprint: String,
    /// Prompt and answer together, in tokens.
    pub max_model_len: usize,
    /// Rows of the model's output; ids are below it.
    pub vocab_size: usize,
    /// How the model writes tool calls; with `None` they stay text.
    pub tool_parser: Option<ToolParser>,
    /// Members of its tensor-parallel group.
    pub ranks: usize,
}

/// A way to write tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolParser {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen models write.
    Hermes,
}

/// A model that is served.
pub(crate) struct ServedModel {
    names: ModelNames,
    pub(crate) settings: ModelSettings,
    pub(crate) engine: EngineHandle,
    pub(crate) text: Arc<TextModel>,
    pub(crate) metrics: Arc<ModelMetrics>,
    progress: Mutex<Progress>,
    /// Bytes of the longest token: a text of more than this times the context can not fit.
    longest_token: usize,
}

// === impl ModelNames ===

impl ModelNames {
    /// Name and aliases.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }
}

// === impl ServedModel ===

impl ServedModel {
    /// Serve `engine` and `text` under `names`.
    pub(crate) fn new(
        names: ModelNames,
        settings: ModelSettings,
        engine: EngineHandle,
        text: Arc<TextModel>,
        metrics: &ServerMetrics,
    ) -> Self {
        let ids = 0..u32::try_from(text.vocab_size()).unwrap_or(u32::MAX);
        let longest_token = ids.map(|id| text.token_bytes(id).len()).max().unwrap_or(1).max(1);
        let metrics = metrics.model(&names.name, engine.config());
        let progress = Mutex::new(Progress::new(Instant::now()));
        Self { names, settings, engine, text, metrics, progress, longest_token }
    }

    pub(crate) fn name(&self) -> &str {
        &self.names.name
    }

    /// What probes are told; to be asked every now and then, so that a stall is seen when it begins.
    pub(crate) fn condition(&self, now: Instant, stall_timeout: Duration) -> Condition {
        let stats = self.engine.stats();
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let still = progress.observe(now, stats.has_work, stats.steps);
        match self.engine.state() {
            EngineState::Failed(why) => Condition::Failed(why),
            _ if still > stall_timeout => Condition::Stalled(still),
            EngineState::Draining | EngineState::Stopped => Condition::Draining,
            EngineState::Running => Condition::Ready,
        }
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
        f.debug_struct("ServedModel")
            .field("names", &self.names)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

//! What a head or a server tells the dashboard about itself.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::histogram::HistogramTotals;

/// What is shown, as it is now. Given by the head or the server; asked once a second, so it has to be cheap and must
/// not wait.
pub trait Source: Send + Sync + 'static {
    /// The present.
    fn snapshot(&self) -> Snapshot;
}

/// Everything the pages show of one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Whose pages these are.
    pub role: Role,
    /// Version of the program.
    pub version: String,
    /// When the process started; in JSON seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub started: SystemTime,
    /// Models, in the order they are shown.
    pub models: Vec<ModelView>,
    /// Workers behind a head; a server shows itself as one.
    pub workers: Vec<WorkerView>,
    /// Requests that are queued or running; 200 are shown.
    pub requests: Vec<RequestView>,
    /// What failed last, in any order; 100 are shown.
    pub errors: Vec<ErrorView>,
}

/// Whose pages these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A head with workers behind it.
    Head,
    /// A server alone.
    Serve,
}

/// One model.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ModelView {
    /// Name in requests.
    pub name: String,
    /// Further names.
    pub aliases: Vec<String>,
    /// Workers that take requests.
    pub ready_workers: usize,
    /// All workers.
    pub workers: usize,
    /// Requests that wait at the head for a worker.
    pub queued: usize,
    /// Requests whose tokens are being computed.
    pub running: usize,
    /// Requests that wait inside workers.
    pub waiting: usize,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_usage: f64,
    /// Counters of this model.
    pub totals: Totals,
}

/// Counters that only rise while nothing restarts. A counter that falls adds nothing to the history, so a sum over
/// workers should keep the share of those that are gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens that were sampled.
    pub generation_tokens: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// Requests that were answered.
    pub requests_ok: u64,
    /// Requests that were not.
    pub requests_failed: u64,
    /// Seconds until the first token.
    pub first_token: HistogramTotals,
    /// Seconds between tokens.
    pub between_tokens: HistogramTotals,
}

/// One worker.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerView {
    /// Name of the worker.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Its model.
    pub model: String,
    /// Whether it takes requests.
    pub state: WorkerState,
    /// Why it is in that state, if there is more to say.
    pub why: Option<String>,
    /// Ranks of its model.
    pub ranks: usize,
    /// Requests whose tokens are being computed.
    pub running: usize,
    /// Requests that wait inside the worker.
    pub waiting: usize,
    /// Share of KV blocks in use, 0 to 1.
    pub kv_usage: f64,
    /// Requests that the head has sent and that have not ended.
    pub in_flight: usize,
    /// Whether the head sends requests there.
    pub circuit: Circuit,
    /// Share of the model that is loaded, 0 to 1; while loading.
    pub load_progress: Option<f64>,
    /// Parts of the cold start, in their order; in JSON pairs of name and seconds.
    #[serde(serialize_with = "pairs_of_seconds")]
    pub phases: Vec<(String, Duration)>,
    /// Version of its program.
    pub version: String,
    /// Since when it is in this state; in JSON seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub since: SystemTime,
}

/// Whether a worker takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// The model is being loaded.
    Loading,
    /// It takes requests.
    Ready,
    /// It finishes what it has and takes nothing new.
    Draining,
    /// Its engine makes no progress.
    Stalled,
    /// Its engine has ended.
    Failed,
    /// It does not answer.
    Unreachable,
}

/// Whether the head sends requests to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    /// It does.
    Closed,
    /// It does not, after failures.
    Open,
    /// It tries one.
    HalfOpen,
}

/// One request that is queued or running.
#[derive(Debug, Clone, Serialize)]
pub struct RequestView {
    /// Id of the request.
    pub id: String,
    /// Its model.
    pub model: String,
    /// Who asked.
    pub consumer: String,
    /// Who computes, once that is known.
    pub worker: Option<String>,
    /// Since it arrived; in JSON seconds.
    #[serde(serialize_with = "seconds")]
    pub age: Duration,
    /// How far it is.
    pub stage: Stage,
    /// Tokens sampled so far.
    pub tokens: u64,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It waits.
    Queued,
    /// Its prompt is being computed.
    Prefill,
    /// Its answer is being computed.
    Decode,
}

/// One request that failed.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorView {
    /// When; in JSON seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub time: SystemTime,
    /// Its model, if it got that far.
    pub model: Option<String>,
    /// Its worker, if it got that far.
    pub worker: Option<String>,
    /// Id of the request.
    pub request_id: String,
    /// HTTP status of the answer.
    pub status: u16,
    /// The sentence that the client got.
    pub message: String,
}

/// Most requests that are shown.
pub(crate) const SHOWN_REQUESTS: usize = 200;
/// Most errors that are shown.
pub(crate) const SHOWN_ERRORS: usize = 100;

// === impl Snapshot ===

impl Snapshot {
    /// Keep what is shown: a source that says more does not make pages large. Errors come newest first.
    pub(crate) fn bounded(mut self) -> Self {
        self.requests.truncate(SHOWN_REQUESTS);
        self.errors.sort_by_key(|error| std::cmp::Reverse(error.time));
        self.errors.truncate(SHOWN_ERRORS);
        self
    }
}

// === impl WorkerState, Circuit, Stage ===

impl WorkerState {
    /// The word, with a sign that tells states apart without colour.
    pub(crate) fn sign(self) -> (&'static str, &'static str) {
        match self {
            Self::Loading => ("\u{25d0}", "loading"),
            Self::Ready => ("\u{25cf}", "ready"),
            Self::Draining => ("\u{25d1}", "draining"),
            Self::Stalled => ("\u{25b2}", "stalled"),
            Self::Failed => ("\u{2715}", "failed"),
            Self::Unreachable => ("\u{25cb}", "unreachable"),
        }
    }
}

impl Circuit {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl Stage {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// Seconds since 1970; 0 for anything earlier.
pub(crate) fn unix(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn unix_seconds<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(unix(*time))
}

fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

fn pairs_of_seconds<S: Serializer>(phases: &[(String, Duration)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(phases.iter().map(|(name, time)| (name, time.as_secs_f64())))
}

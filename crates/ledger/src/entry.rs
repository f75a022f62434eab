//! What is known of a request when it is over.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// One request, as it is billed.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its primary key: version 7, made by the server that took the request. Rows with one id are one row.
    pub id: Uuid,
    /// What the client knows it as.
    pub request_id: String,
    /// Who asked.
    pub consumer: String,
    /// The model that was asked for.
    pub model: String,
    /// The route, such as `/v1/chat/completions`.
    pub route: String,
    /// The worker that answered, if one was asked.
    pub worker: Option<String>,
    /// Tokens of the prompt, where they are known.
    pub prompt_tokens: Option<u32>,
    /// Those of them that were in a cache.
    pub cached_tokens: Option<u32>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u32>,
    /// HTTP status.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// When it arrived.
    pub received_at: DateTime<Utc>,
    /// From there to the first byte of the answer, if there was one.
    pub first_byte: Option<Duration>,
    /// From there to the end.
    pub duration: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With the whole answer.
    Finished,
    /// The client left before.
    Aborted,
    /// With an error of ours, or of a worker.
    Failed,
    /// It was not let in: a wrong key, a limit, a bad request.
    Refused,
}

// === impl Outcome ===

impl Outcome {
    /// Its name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

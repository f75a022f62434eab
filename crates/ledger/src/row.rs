//! An entry in the form in which disk and database take it: no text that PostgreSQL refuses, nothing without a bound.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Entry;

/// Bytes of a text: more than any name of ours, little enough for an index.
const MAX_TEXT: usize = 512;
/// Where times end: PostgreSQL and its clients know years of four digits. Microseconds since 1970.
const MAX_MICROS: i64 = 253_402_300_799_999_999;

/// One row. On disk it is JSON, so that another version can read it: fields may be added, with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(with = "as_text")]
    pub(crate) id: Uuid,
    pub(crate) request_id: String,
    pub(crate) consumer: String,
    pub(crate) model: String,
    pub(crate) route: String,
    pub(crate) worker: Option<String>,
    pub(crate) prompt_tokens: Option<u32>,
    pub(crate) cached_tokens: Option<u32>,
    pub(crate) completion_tokens: Option<u32>,
    pub(crate) status: u16,
    pub(crate) outcome: String,
    /// Microseconds since 1970.
    pub(crate) received_at: i64,
    /// Seconds.
    pub(crate) first_byte: Option<f64>,
    /// Seconds.
    pub(crate) duration: f64,
}

// === impl Row ===

impl Row {
    pub(crate) fn time(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.received_at.clamp(0, MAX_MICROS)).unwrap_or_default()
    }
}

impl From<Entry> for Row {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            request_id: text(entry.request_id),
            consumer: text(entry.consumer),
            model: text(entry.model),
            route: text(entry.route),
            worker: entry.worker.map(text),
            prompt_tokens: entry.prompt_tokens,
            cached_tokens: entry.cached_tokens,
            completion_tokens: entry.completion_tokens,
            status: entry.status,
            outcome: entry.outcome.name().to_owned(),
            received_at: entry.received_at.timestamp_micros().clamp(0, MAX_MICROS),
            first_byte: entry.first_byte.as_ref().map(Duration::as_secs_f64),
            duration: entry.duration.as_secs_f64(),
        }
    }
}

/// A text that PostgreSQL can hold: without NUL, cut to its bound.
fn text(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// The id as people write it.
mod as_text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use uuid::Uuid;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_lose_their_nul() {
        assert_eq!(text("a\0b".to_owned()), "a\u{fffd}b");
        let long = text(format!("x{}", "é".repeat(1000)));
        assert_eq!(long, format!("x{}", "é".repeat(255)));
    }
}

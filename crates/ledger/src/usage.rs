//! What was used, added up: by day (UTC), consumer and model, or by some of them.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::{DatabaseUrl, LedgerError};

const SELECT: &str = "\
SELECT CASE WHEN $5 THEN (received_at AT TIME ZONE 'UTC')::date END AS day, \
CASE WHEN $6 THEN consumer END AS consumer, CASE WHEN $7 THEN model END AS model, count(*) AS requests, \
count(*) FILTER (WHERE outcome = 'aborted') AS aborted, count(*) FILTER (WHERE outcome = 'failed') AS failed, \
count(*) FILTER (WHERE outcome = 'refused') AS refused, \
coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens, \
coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens, \
coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens \
FROM usage_entries WHERE ($1::timestamptz IS NULL OR received_at >= $1) \
AND ($2::timestamptz IS NULL OR received_at < $2) AND ($3::text IS NULL OR consumer = $3) \
AND ($4::text IS NULL OR model = $4) GROUP BY 1, 2, 3";

/// Undefined table, in the words of SQLSTATE.
const NO_TABLE: &str = "42P01";

/// Which requests are added up, and how.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// Those that arrived at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Those that arrived before.
    pub to: Option<DateTime<Utc>>,
    /// Those of one consumer.
    pub consumer: Option<String>,
    /// Those for one model.
    pub model: Option<String>,
    /// What has a row of its own.
    pub group_by: GroupBy,
}

/// What has a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// Each day, as UTC has it.
    pub day: bool,
    /// Each consumer.
    pub consumer: bool,
    /// Each model.
    pub model: bool,
}

/// A sum of requests. What was not grouped by is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct UsageRow {
    /// The day.
    #[serde(serialize_with = "as_text")]
    pub day: Option<NaiveDate>,
    /// Who asked.
    pub consumer: Option<String>,
    /// For what.
    pub model: Option<String>,
    /// How many requests, however they ended.
    pub requests: u64,
    /// Those that the client left.
    pub aborted: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that were not let in.
    pub refused: u64,
    /// Tokens of prompts, cached ones too.
    pub prompt_tokens: u64,
    /// Those of them that came from a cache.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
}

/// Add up what is in the database, ordered by day, consumer, model.
///
/// # Errors
/// The database can not be reached or refuses, or no ledger has written to it yet.
pub async fn usage(url: &DatabaseUrl, query: &UsageQuery) -> Result<Vec<UsageRow>, LedgerError> {
    let failed = |error: sqlx::Error| match &error {
        sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code == NO_TABLE) => {
            LedgerError::NoTables(url.to_string())
        }
        _ => LedgerError::Database { database: url.to_string(), reason: url.explain(&error) },
    };
    let mut connection = PgConnection::connect_with(&url.options()).await.map_err(failed)?;
    let GroupBy { day, consumer, model } = query.group_by;
    let select = sqlx::query(SELECT)
        .persistent(false)
        .bind(query.from)
        .bind(query.to)
        .bind(query.consumer.as_deref())
        .bind(query.model.as_deref())
        .bind(day)
        .bind(consumer)
        .bind(model);
    let rows = select.fetch_all(&mut connection).await.map_err(failed)?;
    let mut rows = rows.iter().map(UsageRow::read).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    // here, since a database orders names by its own rules
    rows.sort_by(|one, other| one.names().cmp(&other.names()));
    // the rows are here: that a farewell is not heard changes nothing
    let _ = connection.close().await;
    Ok(rows)
}

// === impl GroupBy ===

impl Default for GroupBy {
    fn default() -> Self {
        Self { day: true, consumer: true, model: true }
    }
}

// === impl UsageRow ===

impl UsageRow {
    fn read(row: &sqlx::postgres::PgRow) -> Result<Self, sqlx::Error> {
        let number = |name: &str| row.try_get::<i64, _>(name).map(i64::unsigned_abs);
        Ok(Self {
            day: row.try_get("day")?,
            consumer: row.try_get("consumer")?,
            model: row.try_get("model")?,
            requests: number("requests")?,
            aborted: number("aborted")?,
            failed: number("failed")?,
            refused: number("refused")?,
            prompt_tokens: number("prompt_tokens")?,
            cached_tokens: number("cached_tokens")?,
            completion_tokens: number("completion_tokens")?,
        })
    }

    fn names(&self) -> (Option<NaiveDate>, Option<&str>, Option<&str>) {
        (self.day, self.consumer.as_deref(), self.model.as_deref())
    }

    /// Its numbers, in the order of [`NUMBERS`].
    pub(crate) fn numbers(&self) -> [u64; 7] {
        [
            self.requests,
            self.aborted,
            self.failed,
            self.refused,
            self.prompt_tokens,
            self.cached_tokens,
            self.completion_tokens,
        ]
    }
}

/// Names of [`UsageRow::numbers`].
pub(crate) const NUMBERS: [&str; 7] =
    ["requests", "aborted", "failed", "refused", "prompt_tokens", "cached_tokens", "completion_tokens"];

fn as_text<S: serde::Serializer>(day: &Option<NaiveDate>, serializer: S) -> Result<S::Ok, S::Error> {
    day.map(|day| day.to_string()).serialize(serializer)
}

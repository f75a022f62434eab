//! One connection to the database: tables first, then rows in batches, each row once however often it is sent.

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection};

use crate::DatabaseUrl;
use crate::row::Row;

/// Tables of another program in the same database may be migrated by sqlx too.
const MIGRATIONS_TABLE: &str = "vlinders_migrations";

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // While an update rolls out, or is rolled back, tables can be newer than this program. They only grow.
    migrator.set_ignore_missing(true);
    migrator
});

const INSERT: &str = "\
INSERT INTO usage_entries (id, request_id, consumer, model, route, worker, prompt_tokens, cached_tokens, \
completion_tokens, status, outcome, received_at, first_byte_seconds, duration_seconds) \
SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], \
$8::bigint[], $9::bigint[], $10::integer[], $11::text[], $12::timestamptz[], $13::double precision[], \
$14::double precision[]) ON CONFLICT (id) DO NOTHING";

pub(crate) struct Database(PgConnection);

/// Behind a pointer, since the compiler can not see through the lifetimes in sqlx that these are `Send`.
type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'a>>;

/// The database did not take rows.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is away, or not ready: the same rows may be taken later.
    Away(String),
    /// It does not take these rows, now or later.
    Rows(String),
}

// === impl Database ===

impl Database {
    /// Connect, and make the tables if they are missing.
    pub(crate) async fn connect(url: &DatabaseUrl, patience: Duration) -> Result<Self, Refusal> {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&url.options()).await?;
            migrate(&mut connection).await.map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
            Ok(Self(connection))
        };
        limited(patience, url, Box::pin(connecting)).await
    }

    /// Insert rows, all or none. Those that are there already stay as they are.
    pub(crate) async fn insert(
        &mut self,
        url: &DatabaseUrl,
        rows: &[Row],
        patience: Duration,
    ) -> Result<(), Refusal> {
        fn of<'a, T>(rows: &'a [Row], field: impl Fn(&'a Row) -> T) -> Vec<T> {
            rows.iter().map(field).collect()
        }
        let tokens = |field: fn(&Row) -> Option<u32>| of(rows, move |row| field(row).map(i64::from));
        let insert = sqlx::query(INSERT)
            // Poolers between us and the database know no named statements.
            .persistent(false)
            .bind(of(rows, |row| row.id))
            .bind(of(rows, |row| row.request_id.as_str()))
            .bind(of(rows, |row| row.consumer.as_str()))
            .bind(of(rows, |row| row.model.as_str()))
            .bind(of(rows, |row| row.route.as_str()))
            .bind(of(rows, |row| row.worker.as_deref()))
            .bind(tokens(|row| row.prompt_tokens))
            .bind(tokens(|row| row.cached_tokens))
            .bind(tokens(|row| row.completion_tokens))
            .bind(of(rows, |row| i32::from(row.status)))
            .bind(of(rows, |row| row.outcome.as_str()))
            .bind(of(rows, Row::time))
            .bind(of(rows, |row| row.first_byte))
            .bind(of(rows, |row| row.duration))
            .execute(&mut self.0);
        limited(patience, url, Box::pin(insert)).await.map(|_| ())
    }

    /// Whether it is still there.
    pub(crate) async fn ping(&mut self, url: &DatabaseUrl, patience: Duration) -> Result<(), Refusal> {
        limited(patience, url, Box::pin(self.0.ping())).await
    }
}

/// Several processes do this at the same time: all but one wait for a lock of the database.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    // `run` is the same, but its future is not `Send` in the eyes of the compiler.
    MIGRATOR.run_direct(None, connection, false).await
}

async fn limited<T>(patience: Duration, url: &DatabaseUrl, work: Work<'_, T>) -> Result<T, Refusal> {
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if is_about_rows(&error) => Err(Refusal::Rows(url.explain(&error))),
        Ok(Err(error)) => Err(Refusal::Away(url.explain(&error))),
        Err(_) => Err(Refusal::Away(format!("no answer within {} seconds", patience.as_secs_f64()))),
    }
}

/// Classes of SQLSTATE that speak of what was sent, not of the server: data exceptions, constraints, limits.
fn is_about_rows(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Encode(_) => true,
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

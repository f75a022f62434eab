//! A ledger with a real PostgreSQL: what its tests share.

mod delivery;
mod logs;
mod outages;
mod report;
mod spool;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tempfile::TempDir;
use uuid::Uuid;
use vlinders_edge::Metrics;
use vlinders_testkit::Postgres;

use crate::{DELIVERY_SECONDS, Entry, Ledger, LedgerConfig, LedgerError, Outcome};

/// How long something may take that surely happens, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn entry(number: u32) -> Entry {
    Entry {
        id: Uuid::now_v7(),
        request_id: format!("req-{number}"),
        consumer: "anna".to_owned(),
        model: "llama".to_owned(),
        route: "/v1/chat/completions".to_owned(),
        worker: Some("10.0.0.7:8000".to_owned()),
        prompt_tokens: Some(number),
        cached_tokens: Some(1),
        completion_tokens: Some(2),
        status: 200,
        outcome: Outcome::Finished,
        received_at: time("2026-03-01T12:00:00Z"),
        first_byte: Some(Duration::from_millis(250)),
        duration: Duration::from_millis(1500),
    }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A database and a folder for spools.
struct World {
    postgres: Postgres,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        Self { postgres: Postgres::start().unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    fn config(&self) -> LedgerConfig {
        let mut config = LedgerConfig::new(self.postgres.url().parse().unwrap(), self.spool());
        config.interval = Duration::from_millis(5);
        config.max_backoff = Duration::from_millis(200);
        config
    }

    async fn ledger(&self) -> (Ledger, Metrics) {
        self.ledger_with(self.config()).await.unwrap()
    }

    async fn ledger_with(&self, config: LedgerConfig) -> Result<(Ledger, Metrics), LedgerError> {
        let metrics = Metrics::new(&[DELIVERY_SECONDS]);
        Ok((Ledger::start(config, &metrics).await?, metrics))
    }

    fn sql(&self, sql: &str) -> String {
        self.postgres.sql(sql).unwrap()
    }

    /// Rows in the database, and different ids among them.
    fn counted(&self) -> String {
        self.sql("select count(*), count(distinct request_id) from usage_entries")
    }

    fn files(&self, ending: &str) -> Vec<PathBuf> {
        files(&self.spool(), ending)
    }
}

/// Files of a folder that end so, oldest first.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}

/// The value of a series, such as `vlinders_ledger_rows_total{result="delivered"}`.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

fn delivered(metrics: &Metrics) -> f64 {
    value(metrics, r#"vlinders_ledger_rows_total{result="delivered"}"#)
}

fn dropped(metrics: &Metrics) -> f64 {
    value(metrics, r#"vlinders_ledger_rows_total{result="dropped"}"#)
}

fn pending(metrics: &Metrics) -> f64 {
    value(metrics, "vlinders_ledger_pending_rows")
}

async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Rows in the files that wait.
fn spooled(folder: &Path) -> usize {
    let read = |path: &PathBuf| crate::segment::read(&std::fs::read(path).unwrap_or_default()).rows.len();
    files(folder, ".rows").iter().map(read).sum()
}

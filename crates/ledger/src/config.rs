//! How much is kept where, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use crate::DatabaseUrl;

/// The settings of a ledger.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// The database.
    pub database_url: DatabaseUrl,
    /// A folder of this process alone, where rows are until the database has them.
    pub spool: PathBuf,
    /// Bytes that rows may take there.
    pub max_spool_bytes: u64,
    /// Rows of one insert.
    pub batch_rows: usize,
    /// How long a row may wait for others before it is written: what a crash can lose.
    pub interval: Duration,
    /// Rows that may wait in memory to be written to disk, and again as many that the disk does not take.
    pub queue_rows: usize,
    /// The longest pause between attempts to reach the database.
    pub max_backoff: Duration,
    /// How long connecting, migrating, or one insert may take.
    pub timeout: Duration,
}

// === impl LedgerConfig ===

impl LedgerConfig {
    /// The defaults: 256 MiB of disk (about a million rows), a second of waiting.
    #[must_use]
    pub fn new(database_url: DatabaseUrl, spool: PathBuf) -> Self {
        Self {
            database_url,
            spool,
            max_spool_bytes: 256 << 20,
            batch_rows: 500,
            interval: Duration::from_secs(1),
            queue_rows: 10_000,
            max_backoff: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

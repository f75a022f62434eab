//! The handle: entries go in without waiting, two tasks do the rest.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use vlinders_edge::Metrics;

use crate::collector::collect;
use crate::counts::Counts;
use crate::deliverer::Deliverer;
use crate::shared::Shared;
use crate::spool::Spool;
use crate::{Entry, LedgerConfig, LedgerError};

/// A former process may be about to end when its successor starts.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Where requests are entered when they are over.
///
/// Dropped without [`Ledger::close`], it writes what it has to the spool and leaves it there.
pub struct Ledger {
    entries: mpsc::Sender<Entry>,
    closing: watch::Sender<bool>,
    shared: Arc<Shared>,
    tasks: Mutex<Option<Tasks>>,
}

struct Tasks {
    collector: JoinHandle<()>,
    deliverer: JoinHandle<()>,
}

// === impl Ledger ===

impl Ledger {
    /// Take the spool, and begin to deliver what a former process left in it. The database may be away.
    ///
    /// # Errors
    /// The spool can not be written, or another process has it.
    pub async fn start(config: LedgerConfig, metrics: &Metrics) -> Result<Self, LedgerError> {
        let (spool, rows) = open(&config).await?;
        let counts = Counts::new(metrics);
        counts.taken(rows);
        if rows > 0 {
            tracing::info!("{rows} usage rows of a former process are delivered first");
        }
        let shared = Shared::new(spool, counts);
        let (entries, receiver) = mpsc::channel(config.queue_rows.max(1));
        let closing = watch::Sender::new(false);
        let collecting = collect(Arc::clone(&shared), receiver, closing.subscribe(), config.clone());
        let collector = tokio::spawn(collecting);
        let deliverer = tokio::spawn(Deliverer::new(Arc::clone(&shared), config).run());
        Ok(Self { entries, closing, shared, tasks: Mutex::new(Some(Tasks { collector, deliverer })) })
    }

    /// Enter a request. Never waits and never fails: when disk and database are both too slow, the entry is dropped,
    /// counted and logged.
    pub fn record(&self, entry: Entry) {
        self.shared.counts.taken(1);
        if let Err(error) = self.entries.try_send(entry) {
            self.shared.drop_rows(
                1,
                match error {
                    mpsc::error::TrySendError::Full(_) => "they come faster than they can be written",
                    mpsc::error::TrySendError::Closed(_) => "they came after the ledger was closed",
                },
            );
        }
    }

    /// Write all that was entered to disk, and wait up to `patience` until the database has it. What it does not take
    /// stays on disk for the next process. A second call does nothing.
    pub async fn close(&self, patience: Duration) {
        let Some(tasks) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let deadline = Instant::now() + patience;
        self.closing.send_replace(true);
        // It ends when the disk has what was entered; it is cancelled only when the runtime ends.
        let _ = tasks.collector.await;
        let _ = timeout_at(deadline, self.shared.drained()).await;
        tasks.deliverer.abort();
        let _ = tasks.deliverer.await;
        self.shared.close().await;
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // The collector ends by itself, when it has written what was entered.
        if let Some(tasks) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tasks.deliverer.abort();
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

/// The spool and the number of rows in it.
async fn open(config: &LedgerConfig) -> Result<(Spool, usize), LedgerError> {
    for _ in 1..LOCK_TRIES {
        match open_once(config).await {
            Err(LedgerError::SpoolInUse(_)) => sleep(LOCK_PAUSE).await,
            opened => return opened,
        }
    }
    open_once(config).await
}

async fn open_once(config: &LedgerConfig) -> Result<(Spool, usize), LedgerError> {
    let LedgerConfig { spool, max_spool_bytes, queue_rows, .. } = config.clone();
    let path = spool.clone();
    let opening = tokio::task::spawn_blocking(move || Spool::open(&spool, max_spool_bytes, queue_rows));
    opening.await.unwrap_or_else(|error| Err(ended(&path, error)))
}

fn ended(path: &Path, error: tokio::task::JoinError) -> LedgerError {
    LedgerError::Spool { path: path.to_owned(), reason: std::io::Error::other(error) }
}

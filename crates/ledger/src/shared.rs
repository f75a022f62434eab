//! What the two tasks of a ledger share: the rows that wait, and the counts.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::alarm::Alarm;
use crate::counts::Counts;
use crate::row::Row;
use crate::spool::{Front, Spool};

pub(crate) struct Shared {
    /// Locked on threads that may block, since whoever has it writes to the disk.
    spool: Mutex<Spool>,
    pub(crate) counts: Counts,
    /// There are rows to deliver.
    pub(crate) arrived: Notify,
    /// Whether rows wait.
    waiting: watch::Sender<bool>,
    dropped: Alarm,
    disk: Alarm,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(spool: Spool, counts: Counts) -> Arc<Self> {
        counts.spool_bytes.set(spool.bytes() as f64);
        let waiting = watch::Sender::new(!spool.is_empty());
        Arc::new(Self {
            spool: Mutex::new(spool),
            counts,
            arrived: Notify::new(),
            waiting,
            dropped: Alarm::default(),
            disk: Alarm::default(),
        })
    }

    /// Keep rows for the database.
    pub(crate) async fn append(self: &Arc<Self>, rows: Vec<Row>) {
        let Some(appended) = self.with(|spool| spool.append(rows)).await else { return };
        if let Some(trouble) = &appended.trouble
            && self.disk.raise(1).is_some()
        {
            tracing::error!(
                "usage rows do not go to the disk: {trouble}; a few stay in memory, where a crash loses them"
            );
        }
        self.drop_rows(appended.dropped, "neither disk nor memory has room for them");
        self.arrived.notify_one();
    }

    /// The oldest rows.
    pub(crate) async fn front(self: &Arc<Self>) -> Option<Front> {
        self.with(Spool::front).await.flatten()
    }

    /// Forget what the database has.
    pub(crate) async fn remove(self: &Arc<Self>, front: Front) {
        self.with(move |spool| spool.remove(&front)).await;
    }

    /// The database will never take this row.
    pub(crate) async fn reject(self: &Arc<Self>, row: Row, reason: String) {
        self.counts.dropped(1);
        let id = row.id;
        match self.with(move |spool| spool.reject(&row)).await {
            Some(Ok(path)) => {
                tracing::error!(
                    "the database refuses usage row {id}: {reason}; it is kept in {}",
                    path.display()
                );
            }
            Some(Err(error)) => {
                tracing::error!("the database refuses usage row {id}: {reason}; it is lost: {error}");
            }
            None => {}
        }
    }

    /// Rows are lost: count them, and say so.
    pub(crate) fn drop_rows(&self, rows: usize, reason: &str) {
        if rows == 0 {
            return;
        }
        self.counts.dropped(rows);
        if let Some(count) = self.dropped.raise(rows as u64) {
            tracing::error!(
                "{count} usage rows are lost: {reason} ({} since the start)",
                self.counts.dropped_rows()
            );
        }
    }

    /// Until nothing waits.
    pub(crate) async fn drained(&self) {
        // it fails when the sender is gone, which is ours
        let _ = self.waiting.subscribe().wait_for(|waiting| !waiting).await;
    }

    /// Leave the folder to others; what is in memory alone is lost.
    pub(crate) async fn close(self: &Arc<Self>) {
        let rows = self.with(|spool| {
            spool.close();
            spool.rows_in_memory()
        });
        let rows = rows.await.unwrap_or(0);
        self.drop_rows(rows, "they were in memory when the server ended, and the database was away");
    }

    /// Work on the spool where blocking is allowed. `None` when the runtime ends.
    async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> Option<T> {
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let mut spool = shared.spool.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut spool);
            shared.counts.spool_bytes.set(spool.bytes() as f64);
            shared.waiting.send_replace(!spool.is_empty());
            result
        });
        done.await.ok()
    }
}

//! From requests to the spool: rows are gathered for a moment, or until there are enough.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::row::Row;
use crate::shared::Shared;
use crate::{Entry, LedgerConfig};

/// Run until there are no more entries: `closing` is true, or the sender is gone.
pub(crate) async fn collect(
    shared: Arc<Shared>,
    mut entries: mpsc::Receiver<Entry>,
    mut closing: watch::Receiver<bool>,
    config: LedgerConfig,
) {
    let batch_rows = config.batch_rows.max(1);
    let mut batch = Vec::with_capacity(batch_rows);
    let mut open = true;
    while open || !entries.is_empty() {
        if fill(&mut entries, &mut closing, &mut open, &mut batch, 1).await.is_none() {
            continue;
        }
        let deadline = Instant::now() + config.interval;
        while batch.len() < batch_rows {
            let more = fill(&mut entries, &mut closing, &mut open, &mut batch, batch_rows);
            match timeout_at(deadline, more).await {
                Ok(Some(())) => {}
                // the end is near, but not all is here
                Ok(None) if !entries.is_empty() => {}
                Ok(None) | Err(_) => break,
            }
        }
        let rows = batch.drain(..).map(Row::from).collect();
        shared.append(rows).await;
    }
}

/// Wait for entries, up to `until` of them. `None` when there are none any more, or the end is near.
async fn fill(
    entries: &mut mpsc::Receiver<Entry>,
    closing: &mut watch::Receiver<bool>,
    open: &mut bool,
    batch: &mut Vec<Entry>,
    until: usize,
) -> Option<()> {
    let limit = until.saturating_sub(batch.len()).max(1);
    tokio::select! {
        count = entries.recv_many(batch, limit) => {
            *open &= count > 0;
            (count > 0).then_some(())
        }
        _ = closing.wait_for(|closing| *closing), if *open => {
            *open = false;
            entries.close();
            None
        }
    }
}

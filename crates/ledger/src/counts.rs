//! What operators see of the ledger.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram};
use vlinders_edge::{Metrics, buckets};

/// The histogram of this crate with its buckets, for `Metrics::new`: seconds of one insert.
pub const DELIVERY_SECONDS: (&str, &[f64]) = ("vlinders_ledger_delivery_seconds", buckets::REQUEST);

pub(crate) struct Counts {
    delivered: Counter,
    dropped: Counter,
    pending: Gauge,
    pub(crate) spool_bytes: Gauge,
    pub(crate) database_up: Gauge,
    pub(crate) delivery_seconds: Histogram,
    dropped_rows: AtomicU64,
}

// === impl Counts ===

impl Counts {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        metrics.describe_counter(
            "vlinders_ledger_rows_total",
            "Usage rows that the database has (delivered), or that are lost to it (dropped)",
        );
        metrics
            .describe_gauge("vlinders_ledger_pending_rows", "Usage rows that the database does not have yet");
        metrics.describe_gauge("vlinders_ledger_spool_bytes", "Bytes of usage rows that wait on disk");
        metrics.describe_gauge(
            "vlinders_ledger_database_up",
            "1 while the usage database takes rows, 0 while it does not",
        );
        metrics.describe_histogram(DELIVERY_SECONDS.0, "Seconds of one insert of usage rows");
        let counts = Self {
            delivered: metrics.counter("vlinders_ledger_rows_total", &[("result", "delivered")]),
            dropped: metrics.counter("vlinders_ledger_rows_total", &[("result", "dropped")]),
            pending: metrics.gauge("vlinders_ledger_pending_rows", &[]),
            spool_bytes: metrics.gauge("vlinders_ledger_spool_bytes", &[]),
            database_up: metrics.gauge("vlinders_ledger_database_up", &[]),
            delivery_seconds: metrics.histogram(DELIVERY_SECONDS.0, &[]),
            dropped_rows: AtomicU64::new(0),
        };
        // a series that is there from the beginning can be alerted on
        counts.delivered.increment(0);
        counts.dropped.increment(0);
        counts.pending.set(0.0);
        counts.spool_bytes.set(0.0);
        counts.database_up.set(0.0);
        counts
    }

    pub(crate) fn taken(&self, rows: usize) {
        self.pending.increment(rows as f64);
    }

    pub(crate) fn delivered(&self, rows: usize) {
        self.pending.decrement(rows as f64);
        self.delivered.increment(rows as u64);
    }

    pub(crate) fn dropped(&self, rows: usize) {
        self.pending.decrement(rows as f64);
        self.dropped.increment(rows as u64);
        self.dropped_rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Rows dropped since the start.
    pub(crate) fn dropped_rows(&self) -> u64 {
        self.dropped_rows.load(Ordering::Relaxed)
    }
}

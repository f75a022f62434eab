//! From the spool to the database, for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::LedgerConfig;
use crate::alarm::Alarm;
use crate::database::{Database, Refusal};
use crate::row::Row;
use crate::shared::Shared;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// How often a connection without work is asked whether it is alive.
const IDLE: Duration = Duration::from_secs(15);

pub(crate) struct Deliverer {
    shared: Arc<Shared>,
    config: LedgerConfig,
    database: Option<Database>,
    backoff: Duration,
    away: Alarm,
    /// The database was away when we last asked.
    was_away: bool,
}

// === impl Deliverer ===

impl Deliverer {
    pub(crate) fn new(shared: Arc<Shared>, config: LedgerConfig) -> Self {
        Self {
            shared,
            config,
            database: None,
            backoff: FIRST_BACKOFF,
            away: Alarm::default(),
            was_away: false,
        }
    }

    /// Never ends.
    pub(crate) async fn run(mut self) {
        loop {
            match self.shared.front().await {
                Some(mut front) => {
                    for rows in std::mem::take(&mut front.rows).chunks(self.config.batch_rows.max(1)) {
                        self.deliver(rows).await;
                    }
                    self.shared.remove(front).await;
                }
                None => self.idle().await,
            }
        }
    }

    /// Until all rows are in the database, but for those that it will never take.
    async fn deliver(&mut self, rows: &[Row]) {
        let mut parts = vec![rows];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let begin = Instant::now();
            match self.insert(part).await {
                Ok(()) => {
                    self.shared.counts.delivery_seconds.record(begin.elapsed().as_secs_f64());
                    self.shared.counts.delivered(part.len());
                }
                Err(Refusal::Rows(reason)) => match part {
                    [row] => self.shared.reject(row.clone(), reason).await,
                    // one row is at fault: halves of halves find it
                    _ => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(Refusal::Away(reason)) => {
                    parts.push(part);
                    self.pause(&reason).await;
                }
            }
        }
    }

    async fn insert(&mut self, rows: &[Row]) -> Result<(), Refusal> {
        let LedgerConfig { database_url, timeout, .. } = &self.config;
        let database = match &mut self.database {
            Some(database) => database,
            None => self.database.insert(connect(&self.config).await?),
        };
        let inserted = database.insert(database_url, rows, *timeout).await;
        if inserted.is_ok() {
            self.is_there();
        }
        inserted
    }

    /// Nothing to deliver: connect, or ask whether the connection is alive.
    async fn idle(&mut self) {
        let state = match &mut self.database {
            None => connect(&self.config).await.map(|database| self.database = Some(database)),
            Some(database) => {
                if timeout(IDLE, self.shared.arrived.notified()).await.is_ok() {
                    return;
                }
                database.ping(&self.config.database_url, self.config.timeout).await
            }
        };
        match state {
            Ok(()) => self.is_there(),
            Err(Refusal::Away(reason) | Refusal::Rows(reason)) => self.pause(&reason).await,
        }
    }

    fn is_there(&mut self) {
        self.shared.counts.database_up.set(1.0);
        self.backoff = FIRST_BACKOFF;
        if std::mem::take(&mut self.was_away) {
            tracing::info!("the usage database takes rows again");
        }
    }

    /// Say what is wrong, and wait; then everything begins with a new connection, which also looks for the tables.
    async fn pause(&mut self, reason: &str) {
        self.database = None;
        self.shared.counts.database_up.set(0.0);
        self.was_away = true;
        if self.away.raise(1).is_some() {
            let url = &self.config.database_url;
            tracing::error!(
                "the usage database {url} takes no rows: {reason}; they are kept, and it is tried again"
            );
        }
        sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(self.config.max_backoff);
    }
}

async fn connect(config: &LedgerConfig) -> Result<Database, Refusal> {
    match Database::connect(&config.database_url, config.timeout).await {
        // a migration that fails says nothing about rows
        Err(Refusal::Rows(reason)) => Err(Refusal::Away(reason)),
        connected => connected,
    }
}

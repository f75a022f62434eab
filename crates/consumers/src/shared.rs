//! Buckets in Redis: one script decides for all processes, and a Redis that is gone costs nobody its timeout.
//!
//! After the first failure nobody asks Redis any more. One task asks for the consumer that met the failure, until it gets an
//! answer; then all ask again. In a cluster that lost a master, that is when the failover is done.

mod link;
mod options;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use vlinders_edge::Metrics;

use self::link::{Call, Failure, Link, Servers};
pub use self::options::{RedisOptions, RedisUrl, WhenGone};
use crate::bucket::{Cost, Decision};
use crate::error::ConsumersError;
use crate::limits::Limits;

/// Buckets of all processes.
#[derive(Clone)]
pub(crate) struct Shared {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Servers,
    prefix: String,
    timeout: Duration,
    state: Mutex<State>,
    /// Settlements under way; beyond them, estimates stay.
    settling: Arc<Semaphore>,
    up: Gauge,
    errors: Counter,
}

/// The connection, if Redis answers, and how many there have been: who fails on an old one closes no new one.
struct State {
    link: Option<Link>,
    number: u64,
}

const MAX_SETTLING: usize = 1024;
/// How long one try to get Redis back may take, and how long until the next.
const TRY: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(250);
/// Asked for when no consumer has met a failure yet.
const NOBODY: &str = "anonymous";

// === impl Shared ===

impl Shared {
    pub(crate) fn new(options: RedisOptions, metrics: &Metrics) -> Result<Self, ConsumersError> {
        const UP: &str = "vlinders_rate_limit_backend_up";
        const ERRORS: &str = "vlinders_rate_limit_backend_errors_total";
        metrics.describe_gauge(UP, "Whether Redis decides about rate limits (1), or is gone (0)");
        metrics.describe_counter(ERRORS, "Calls to Redis that failed or took too long");
        let (up, errors) = (metrics.gauge(UP, &[]), metrics.counter(ERRORS, &[]));
        up.set(0.0);
        errors.increment(0);
        let servers = Servers::new(&options)?;
        let state = Mutex::new(State { link: None, number: 0 });
        let settling = Arc::new(Semaphore::new(MAX_SETTLING));
        let RedisOptions { prefix, timeout, .. } = options;
        Ok(Self { inner: Arc::new(Inner { servers, prefix, timeout, state, settling, up, errors }) })
    }

    /// Connect, or begin to try.
    pub(crate) async fn start(&self) {
        if !self.inner.reconnect(&self.inner.key(NOBODY)).await {
            self.spawn_search(self.inner.key(NOBODY));
        }
    }

    /// What Redis decides; `None` when it is gone.
    pub(crate) async fn admit(&self, id: &str, limits: Limits, cost: Cost) -> Option<Decision> {
        self.call(Call { key: self.inner.key(id), now: None, limits, cost: Some(cost), more: 0 }).await
    }

    /// Take `more` tokens, or give them back, in a task of its own.
    pub(crate) fn settle(&self, id: &str, limits: Limits, more: i64) {
        let call = Call { key: self.inner.key(id), now: None, limits, cost: None, more };
        let (Ok(place), Ok(runtime)) =
            (Arc::clone(&self.inner.settling).try_acquire_owned(), Handle::try_current())
        else {
            self.inner.errors.increment(1);
            return;
        };
        let shared = self.clone();
        runtime.spawn(async move {
            shared.call(call).await;
            drop(place);
        });
    }

    pub(crate) async fn call(&self, call: Call) -> Option<Decision> {
        let (link, number) = self.inner.link()?;
        let failure = match timeout(self.inner.timeout, link.call(&call)).await {
            Ok(Ok(decision)) => return Some(decision),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Timeout,
        };
        self.inner.errors.increment(1);
        if self.inner.lose(number) {
            tracing::warn!(%failure, "Redis does not answer, so it is not asked about rate limits until it does");
            self.spawn_search(call.key);
        }
        None
    }

    /// Try until Redis answers for `key`, or nobody limits anything any more.
    fn spawn_search(&self, key: String) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            while let Some(inner) = inner.upgrade() {
                if inner.reconnect(&key).await {
                    tracing::info!("Redis answers, and decides about rate limits");
                    return;
                }
                drop(inner);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

// === impl Inner ===

impl Inner {
    /// Braces are the hash tag of a cluster; an id with braces of its own still has one key, and so one slot.
    fn key(&self, id: &str) -> String {
        format!("{}{{{id}}}", self.prefix)
    }

    fn link(&self) -> Option<(Link, u64)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.link.clone().map(|link| (link, state.number))
    }

    /// Give up connection `number`; false if somebody else has.
    fn lose(&self, number: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.number != number || state.link.take().is_none() {
            return false;
        }
        self.up.set(0.0);
        true
    }

    /// A new connection, once it has answered a call that costs nothing.
    async fn reconnect(&self, key: &str) -> bool {
        let free = Cost { requests: 0, tokens: 0 };
        let limits = Limits::default();
        let probe = Call { key: format!("{key}:probe"), now: None, limits, cost: Some(free), more: 0 };
        let attempt = async {
            let link = self.servers.connect().await?;
            timeout(self.timeout, link.call(&probe)).await.map_err(|_| Failure::Timeout)??;
            Ok::<_, Failure>(link)
        };
        match timeout(TRY, attempt).await.unwrap_or(Err(Failure::Timeout)) {
            Ok(link) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                (state.link, state.number) = (Some(link), state.number + 1);
                self.up.set(1.0);
                true
            }
            Err(failure) => {
                tracing::debug!(%failure, "Redis does not answer yet");
                self.errors.increment(1);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;

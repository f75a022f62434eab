//! What all requests of a head share.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;
use vlinders_consumers::{Authenticator, RateLimiter};
use vlinders_edge::{Admission, Bodies, RunningRequests};
use vlinders_ledger::Ledger;

use crate::client::{InvalidWorkerKey, WorkerClient};
use crate::config::HeadConfig;
use crate::discovery::Discovery;
use crate::fleet::Fleet;
use crate::metrics::HeadMetrics;
use crate::model::Model;
use crate::peers::{Peers, QueueState};

/// What a head works with, besides its configuration.
#[derive(Default)]
pub struct HeadParts {
    /// Ways to find workers, at least one.
    pub workers: Vec<Box<dyn Discovery>>,
    /// Tells who asks; by default everybody is let in.
    pub authenticator: Authenticator,
    /// Limits how much each may.
    pub limiter: Option<RateLimiter>,
    /// Where requests are entered when they are over.
    pub ledger: Option<Ledger>,
}

/// A head: its models and workers, its limits, its door. Cheap to clone.
#[derive(Clone)]
pub struct Head {
    inner: Arc<Inner>,
}

struct Inner {
    config: HeadConfig,
    fleet: Fleet,
    bodies: Bodies,
    admission: Admission,
    metrics: Arc<HeadMetrics>,
    authenticator: Authenticator,
    limiter: Option<RateLimiter>,
    ledger: Option<Ledger>,
    running: RunningRequests,
    peers: Peers,
    /// New with each start.
    instance: String,
    started: SystemTime,
    /// The signal to stop has come: readiness is off, and requests are still taken.
    leaving: CancellationToken,
    /// What still runs is ended.
    ending: CancellationToken,
}

/// A head can not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHead {
    /// Two models have the same name or alias.
    #[error("two models have the name or alias '{0}'; rename one")]
    SameName(String),
    /// Nothing says where workers are.
    #[error("no workers are named; give --worker HOST:PORT, or `head.workers` in server.yaml")]
    NoWorkers,
    /// The key for workers can not be sent.
    #[error(transparent)]
    Key(#[from] InvalidWorkerKey),
}

// === impl Head ===

impl Head {
    /// A head with these parts, which begins to watch its workers. It needs a tokio runtime around it.
    ///
    /// # Errors
    /// The configuration contradicts itself.
    pub fn new(config: HeadConfig, parts: HeadParts, metrics: Arc<HeadMetrics>) -> Result<Self, InvalidHead> {
        let HeadParts { workers, authenticator, limiter, ledger } = parts;
        if workers.is_empty() {
            return Err(InvalidHead::NoWorkers);
        }
        let mut names = std::collections::HashSet::new();
        for model in config.models.iter().flatten() {
            let own = std::iter::once(&*model.name).chain(model.aliases.iter().map(String::as_str));
            if let Some(twice) = own.into_iter().find(|name| !names.insert((*name).to_owned())) {
                return Err(InvalidHead::SameName(twice.to_owned()));
            }
        }
        let client = WorkerClient::new(config.worker_key.as_ref(), config.health.connect_timeout)?;
        let models = config.models.clone();
        let fleet = Fleet::new(client, config.health, models, config.max_prefix_blocks, Arc::clone(&metrics));
        fleet.follow(workers);
        let inner = Inner {
            fleet,
            bodies: Bodies::new(config.body, config.retry_after),
            admission: Admission::new(config.max_in_flight, config.retry_after),
            metrics,
            authenticator,
            limiter,
            ledger,
            running: RunningRequests::default(),
            peers: Peers::default(),
            started: SystemTime::now(),
            instance: uuid::Uuid::new_v4().simple().to_string(),
            leaving: CancellationToken::new(),
            ending: CancellationToken::new(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Ask the other heads that `discovery` finds how many requests wait in them, for autoscalers. It may find this one, too.
    pub fn follow_peers(&self, discovery: Box<dyn Discovery>) {
        let client = self.fleet().client().clone();
        self.inner.peers.follow(discovery, client, self.inner.instance.clone());
    }

    /// Requests that wait in this head, by model.
    pub(crate) fn queue(&self) -> QueueState {
        let models = self.fleet().models();
        let waiting = models.iter().map(|model| (model.offer.name.to_string(), model.num_waiting()));
        QueueState { instance: self.inner.instance.clone(), waiting: waiting.collect() }
    }

    /// Requests for `model`: those that wait in this head and in others, and those that workers have.
    pub(crate) fn num_requests(&self, model: &Model) -> usize {
        model.num_requests() + self.inner.peers.waiting(&model.offer.name)
    }

    /// Wait until the workers that are there have been asked once, or until that takes too long. Until then the head
    /// is not ready: without a list of models, it does not know any.
    pub async fn settled(&self) {
        self.fleet().settled().cancelled().await;
    }

    /// When it began.
    pub(crate) fn started(&self) -> SystemTime {
        self.inner.started
    }

    pub(crate) fn config(&self) -> &HeadConfig {
        &self.inner.config
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.inner.fleet
    }

    pub(crate) fn bodies(&self) -> &Bodies {
        &self.inner.bodies
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    pub(crate) fn metrics(&self) -> &Arc<HeadMetrics> {
        &self.inner.metrics
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    pub(crate) fn limiter(&self) -> Option<&RateLimiter> {
        self.inner.limiter.as_ref()
    }

    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.inner.ledger.as_ref()
    }

    pub(crate) fn running(&self) -> &RunningRequests {
        &self.inner.running
    }

    pub(crate) fn leaving(&self) -> &CancellationToken {
        &self.inner.leaving
    }

    pub(crate) fn ending(&self) -> &CancellationToken {
        &self.inner.ending
    }
}

impl std::fmt::Debug for HeadParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadParts").field("ways to find workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

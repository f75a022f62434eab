//! All models and all workers: which is offered, which is there, and what follows when one comes, speaks or goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use vlinders_api::{ModelState, WorkerState};
use vlinders_edge::ApiError;

use crate::client::WorkerClient;
use crate::config::{HealthConfig, OfferedModel, Stickiness};
use crate::discovery::{Discovery, Stage, Target};
use crate::metrics::HeadMetrics;
use crate::model::Model;
use crate::poll::poll;
use crate::worker::{Worker, lock};

/// Models and workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fleet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: WorkerClient,
    health: HealthConfig,
    metrics: Arc<HeadMetrics>,
    max_prefix_blocks: usize,
    /// Only models that the operator named are offered.
    fixed: bool,
    /// By name and by alias, in the order they became known.
    models: RwLock<Offered>,
    workers: Mutex<BTreeMap<String, Present>>,
    /// The workers that were there at the start have been asked once.
    settled: CancellationToken,
}

#[derive(Debug, Default, Clone)]
struct Offered {
    by_name: HashMap<String, Arc<Model>>,
    all: Vec<Arc<Model>>,
}

/// A worker that is there, and what ends the watch over it.
#[derive(Debug)]
struct Present {
    worker: Arc<Worker>,
    /// Which way of discovery found it.
    source: usize,
    gone: CancellationToken,
}

/// A head that starts waits no longer than this for the workers it finds.
const SETTLING: Duration = Duration::from_secs(10);

// === impl Fleet ===

impl Fleet {
    pub(crate) fn new(
        client: WorkerClient,
        health: HealthConfig,
        models: Option<Vec<OfferedModel>>,
        max_prefix_blocks: usize,
        metrics: Arc<HeadMetrics>,
    ) -> Self {
        let fixed = models.is_some();
        let inner = Inner {
            client,
            health,
            metrics,
            max_prefix_blocks,
            fixed,
            models: RwLock::default(),
            workers: Mutex::default(),
            settled: CancellationToken::new(),
        };
        let fleet = Self { inner: Arc::new(inner) };
        for offer in models.into_iter().flatten() {
            fleet.offer(offer);
        }
        fleet
    }

    pub(crate) fn client(&self) -> &WorkerClient {
        &self.inner.client
    }

    /// Follow these ways to find workers until the head ends.
    pub(crate) fn follow(&self, workers: Vec<Box<dyn Discovery>>) {
        let mut told = Vec::new();
        for (source, discovery) in workers.into_iter().enumerate() {
            let (found, mut targets) = watch::channel(Vec::new());
            tokio::spawn(discovery.run(found));
            let (tell, first) = oneshot::channel();
            told.push(first);
            let fleet = self.clone();
            tokio::spawn(async move {
                let mut tell = Some(tell);
                while targets.changed().await.is_ok() {
                    let targets = targets.borrow_and_update().clone();
                    fleet.apply(source, targets);
                    let _ = tell.take().map(|tell| tell.send(()));
                }
            });
        }
        let fleet = self.clone();
        tokio::spawn(async move {
            let heard = async {
                futures::future::join_all(told).await;
                while fleet.workers().iter().any(|worker| worker.known().is_new()) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            if tokio::time::timeout(SETTLING, heard).await.is_err() {
                tracing::warn!(
                    "not all workers could be found and asked at the start; going on without them"
                );
            }
            fleet.inner.settled.cancel();
        });
    }

    /// The workers that were there at the start have been asked once, or that took too long.
    pub(crate) fn settled(&self) -> &CancellationToken {
        &self.inner.settled
    }

    /// The model that a request names; the only one there is if it names none.
    pub(crate) fn model(&self, asked: Option<&str>) -> Result<Arc<Model>, ApiError> {
        let offered = self.offered();
        match (asked, offered.all.as_slice()) {
            (Some(asked), _) => offered.by_name.get(asked).cloned().ok_or_else(|| {
                let names: Vec<_> = offered.all.iter().flat_map(|model| model.names()).collect();
                ApiError::model_not_found(asked, &names)
            }),
            (None, [only]) => Ok(Arc::clone(only)),
            (None, all) => {
                let names: Vec<_> = all.iter().flat_map(|model| model.names()).collect();
                let message = format!("name one of the models: {}", names.join(", "));
                Err(ApiError::invalid("model", message).with_code("missing_required_parameter"))
            }
        }
    }

    /// All models, in the order they became known.
    pub(crate) fn models(&self) -> Vec<Arc<Model>> {
        self.offered().all.clone()
    }

    /// All workers, by address.
    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        lock(&self.inner.workers).values().map(|present| Arc::clone(&present.worker)).collect()
    }

    /// The targets of a source are these.
    fn apply(&self, source: usize, targets: Vec<Target>) {
        let mut workers = lock(&self.inner.workers);
        let found: HashMap<_, _> =
            targets.into_iter().map(|target| (target.address.clone(), target)).collect();
        workers.retain(|address, present| {
            let stays = present.source != source || found.contains_key(address);
            if !stays {
                tracing::info!(worker = address, "the worker is gone");
                present.gone.cancel();
                self.part(&present.worker);
            }
            stays
        });
        for (address, target) in found {
            if let Some(present) = workers.get(&address) {
                self.renew(&present.worker, target);
                continue;
            }
            let Ok(authority) = address.parse::<Authority>() else {
                tracing::error!(worker = address, "not an address of a worker; write host:port");
                continue;
            };
            tracing::info!(worker = address, pool = target.pool.name, "a worker was found");
            let (worker, gone) = (Arc::new(Worker::new(authority, target)), CancellationToken::new());
            tokio::spawn(poll(self.clone(), Arc::clone(&worker), self.inner.health, gone.clone()));
            workers.insert(address, Present { worker, source, gone });
        }
    }

    /// What the platform says of a known worker.
    fn renew(&self, worker: &Arc<Worker>, target: Target) {
        let before = worker.target();
        if before == target {
            return;
        }
        if before.stage != target.stage {
            tracing::info!(worker = %worker.authority, stage = ?target.stage, "the platform says");
        }
        let leaves = target.stage != Stage::Ready;
        worker.set_target(target);
        if leaves {
            for (_, replica) in self.replicas_of(worker) {
                replica.set_ready(false);
            }
        }
        worker.nudge.notify_one();
    }

    /// A worker has said how it is.
    pub(crate) fn heard(&self, worker: &Arc<Worker>, state: WorkerState) {
        let now = Instant::now();
        let state = Arc::new(state);
        if worker.known().silence.is_some() {
            tracing::info!(worker = %worker.authority, "the worker speaks again");
        }
        worker.tell(Ok(Arc::clone(&state)));
        for reported in &state.models {
            let Some(model) = self.model_of(reported) else { continue };
            let Some(replica) = model.join(worker) else {
                tracing::error!(worker = %worker.authority, "more workers than can be counted");
                continue;
            };
            let change = replica.report(&state, reported, now, self.inner.health.stall_timeout);
            if change.reborn {
                model.forget(&replica);
            }
            if change.readiness {
                let (ready, why) = (replica.is_ready(), reported.why.as_deref());
                tracing::info!(worker = %worker.authority, model = &*model.offer.name, ready, why, "readiness");
            }
            if replica.is_ready() {
                model.wake();
            }
        }
        for model in self.models() {
            let serves = |reported: &ModelState| reported.names().any(|name| name == &*model.offer.name);
            if !state.models.iter().any(serves) {
                model.leave(worker);
            }
        }
    }

    /// A worker does not say how it is.
    pub(crate) fn not_heard(&self, worker: &Arc<Worker>, why: String) {
        if worker.known().silence.is_none() {
            tracing::warn!(worker = %worker.authority, why, "the worker does not answer");
        }
        worker.tell(Err(why));
        for (_, replica) in self.replicas_of(worker) {
            replica.set_ready(false);
        }
    }

    fn part(&self, worker: &Arc<Worker>) {
        for model in self.models() {
            model.leave(worker);
        }
    }

    fn replicas_of(&self, worker: &Arc<Worker>) -> Vec<(Arc<Model>, Arc<crate::worker::Replica>)> {
        let mut found = Vec::new();
        for model in self.models() {
            let own = model.replicas().into_iter().find(|replica| Arc::ptr_eq(&replica.worker, worker));
            found.extend(own.map(|replica| (model, replica)));
        }
        found
    }

    /// The offered model that a worker means.
    fn model_of(&self, reported: &ModelState) -> Option<Arc<Model>> {
        let known = self.offered().by_name.get(&reported.name).cloned();
        if known.is_some() || self.inner.fixed {
            return known;
        }
        let offer = OfferedModel {
            name: reported.name.as_str().into(),
            aliases: reported.aliases.clone(),
            max_model_len: reported.max_model_len,
            stickiness: Stickiness::default(),
        };
        Some(self.offer(offer))
    }

    fn offer(&self, offer: OfferedModel) -> Arc<Model> {
        let mut offered = self.inner.models.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = offered.by_name.get(&*offer.name) {
            return Arc::clone(known);
        }
        let model = Arc::new(Model::new(offer, &self.inner.metrics, self.inner.max_prefix_blocks));
        for name in model.names() {
            offered.by_name.entry(name.to_owned()).or_insert_with(|| Arc::clone(&model));
        }
        offered.all.push(Arc::clone(&model));
        model
    }

    fn offered(&self) -> std::sync::RwLockReadGuard<'_, Offered> {
        self.inner.models.read().unwrap_or_else(PoisonError::into_inner)
    }
}

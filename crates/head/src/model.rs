//! A model as the head offers it: its replicas, and where each request for it goes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics::Gauge;
use tokio::sync::Notify;
use vlinders_api::ModelTotals;
use vlinders_edge::ApiError;

use crate::choose::choose;
use crate::config::{OfferedModel, QueueConfig, Stickiness};
use crate::discovery::Pool;
use crate::metrics::{HeadMetrics, RequestMetrics};
use crate::prefix_chain::BLOCK_BYTES;
use crate::prefix_index::{Place, PrefixIndex};
use crate::request::{BYTES_PER_TOKEN, RoutedRequest};
use crate::retry_budget::RetryBudget;
use crate::worker::{Replica, Worker, lock};

/// A model that clients may ask for.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) offer: OfferedModel,
    /// Since when it is offered, seconds since 1970.
    pub(crate) created: u64,
    pub(crate) retries: RetryBudget,
    replicas: RwLock<Arc<[Entry]>>,
    /// Woken when a replica may have become routable.
    changed: Notify,
    /// Requests that wait for one.
    waiting: AtomicUsize,
    /// The series of its requests.
    pub(crate) metrics: Arc<RequestMetrics>,
    depth: Gauge,
    prefix: Mutex<PrefixIndex>,
    max_prefix_blocks: usize,
    /// Where the search for the best begins.
    turn: AtomicUsize,
    /// What workers had counted that are gone.
    gone: Mutex<ModelTotals>,
}

/// A replica and the pool it belongs to.
#[derive(Debug, Clone)]
struct Entry {
    replica: Arc<Replica>,
    pool: Arc<Pool>,
}

/// A place in the queue.
struct Waiting<'a>(&'a Model);

// === impl Model ===

impl Model {
    pub(crate) fn new(offer: OfferedModel, metrics: &HeadMetrics, max_prefix_blocks: usize) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let depth = metrics.queue_depth(&offer.name);
        let metrics = Arc::new(metrics.requests(&offer.name));
        Self {
            offer,
            created,
            retries: RetryBudget::default(),
            replicas: RwLock::new(Arc::new([])),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            metrics,
            depth,
            prefix: Mutex::default(),
            max_prefix_blocks,
            turn: AtomicUsize::new(0),
            gone: Mutex::default(),
        }
    }

    /// Name and aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.offer.name).chain(self.offer.aliases.iter().map(String::as_str))
    }

    /// Prompt and answer together, in tokens: as the operator says, or else the workers.
    pub(crate) fn max_model_len(&self) -> Option<usize> {
        let reported = || {
            let entries = self.entries();
            let known = entries.iter().filter_map(|entry| {
                entry.replica.worker.known().state?.model(&self.offer.name)?.max_model_len
            });
            known.min()
        };
        self.offer.max_model_len.or_else(reported)
    }

    /// Replicas that a request may be sent to now.
    pub(crate) fn num_routable(&self) -> usize {
        let now = Instant::now();
        self.entries().iter().filter(|entry| entry.replica.is_routable(now)).count()
    }

    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.entries().iter().map(|entry| Arc::clone(&entry.replica)).collect()
    }

    /// The replica at `worker`; it is made if it is new. `None` if there are too many.
    pub(crate) fn join(&self, worker: &Arc<Worker>) -> Option<Arc<Replica>> {
        let mut entries = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        let pool = worker.target().pool;
        if let Some(entry) = entries.iter().find(|entry| Arc::ptr_eq(&entry.replica.worker, worker)) {
            let replica = Arc::clone(&entry.replica);
            if entry.pool != pool {
                let renewed = |entry: &Entry| {
                    let same = Arc::ptr_eq(&entry.replica, &replica);
                    Entry {
                        pool: if same { Arc::clone(&pool) } else { Arc::clone(&entry.pool) },
                        ..entry.clone()
                    }
                };
                *entries = entries.iter().map(renewed).collect();
            }
            return Some(replica);
        }
        let free = |place: &Place| entries.iter().all(|entry| entry.replica.place != *place);
        let place = (0..Place::MAX).find(free)?;
        let replica = Arc::new(Replica::new(Arc::clone(worker), place));
        let new = Entry { replica: Arc::clone(&replica), pool };
        *entries = entries.iter().cloned().chain(std::iter::once(new)).collect();
        Some(replica)
    }

    /// `worker` does not serve this model any more.
    pub(crate) fn leave(&self, worker: &Arc<Worker>) {
        let mut entries = self.replicas.write().unwrap_or_else(PoisonError::into_inner);
        let (gone, kept): (Vec<_>, Vec<_>) =
            entries.iter().cloned().partition(|entry| Arc::ptr_eq(&entry.replica.worker, worker));
        if !gone.is_empty() {
            *entries = kept.into();
        }
        for entry in gone {
            entry.replica.set_ready(false);
            lock(&self.gone).add(&entry.replica.totals());
            self.forget(&entry.replica);
        }
    }

    /// The cache of a replica is empty.
    pub(crate) fn forget(&self, replica: &Replica) {
        lock(&self.prefix).clear(replica.place);
    }

    /// What its workers have counted, those that are gone included.
    pub(crate) fn totals(&self) -> ModelTotals {
        let mut sum = lock(&self.gone).clone();
        for entry in self.entries().iter() {
            sum.add(&entry.replica.totals());
        }
        sum
    }

    /// Wake requests that wait: a replica may be routable.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Requests that wait for a replica.
    pub(crate) fn num_waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that wait here, and answers that its workers work on, whoever asked for them.
    pub(crate) fn num_requests(&self) -> usize {
        let entries = self.entries();
        let answers = entries.iter().map(|entry| entry.replica.candidate(0).answers as usize);
        self.num_waiting() + answers.sum::<usize>()
    }

    /// Blocks of prompts that are remembered.
    pub(crate) fn num_prefix_blocks(&self) -> usize {
        lock(&self.prefix).len()
    }

    /// The best replica for `request` that is not among `tried`; `None` if there is none that can be asked now.
    pub(crate) fn choose(&self, request: &RoutedRequest, tried: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        let entries = self.entries();
        let now = Instant::now();
        let is_free = |entry: &&Entry| {
            entry.replica.is_routable(now) && !tried.iter().any(|tried| Arc::ptr_eq(tried, &entry.replica))
        };
        let mut able: Vec<&Entry> = entries.iter().filter(is_free).collect();
        keep_one_pool(&mut able, request.conversation);
        let is_sticky = request.is_sticky || self.offer.stickiness == Stickiness::User;
        if let Some(user) = request.user.filter(|_| is_sticky) {
            let weight = |entry: &&&Entry| rendezvous(user, entry.replica.worker.authority.as_str());
            return able.iter().max_by_key(weight).map(|entry| Arc::clone(&entry.replica));
        }
        let mut matched = Vec::new();
        if able.len() > 1 && !request.prefix.hashes().is_empty() {
            lock(&self.prefix).matches(&request.prefix, &mut matched);
        }
        let known = |replica: &Replica| matched.get(usize::from(replica.place)).copied().unwrap_or(0);
        let candidates = able.iter().map(|entry| entry.replica.candidate(known(&entry.replica)));
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        choose(candidates, request.blocks(), start).map(|best| Arc::clone(&able[best].replica))
    }

    /// `replica` was sent `request`: from now on it is likely to know its beginning.
    pub(crate) fn sent(&self, replica: &Replica, request: &RoutedRequest) {
        if request.prefix.hashes().is_empty() {
            return;
        }
        let own = replica.kv_tokens() * BYTES_PER_TOKEN / BLOCK_BYTES;
        let share = self.max_prefix_blocks / self.entries().len().max(1);
        lock(&self.prefix).record(replica.place, &request.prefix, own.min(share));
    }

    /// Wait until `ready` gives something, which is asked whenever a replica may have become routable.
    ///
    /// # Errors
    /// Too many wait already, or it took too long.
    pub(crate) async fn wait<T>(
        &self,
        queue: &QueueConfig,
        retry_after: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, ApiError> {
        let _place = self.enqueue(queue.max_waiting).ok_or_else(|| {
            let message = format!(
                "no worker of the model '{}' is ready, and {} requests wait for one already; retry later",
                self.offer.name, queue.max_waiting
            );
            ApiError::unavailable(message, "queue_full", retry_after)
        })?;
        let waited = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = ready() {
                    return found;
                }
                // A breaker becomes half open by time alone.
                let _ = tokio::time::timeout(Duration::from_millis(500), changed).await;
            }
        };
        tokio::time::timeout(queue.timeout, waited).await.map_err(|_| {
            let message = format!(
                "no worker of the model '{}' became ready within {} s; retry later",
                self.offer.name,
                queue.timeout.as_secs_f64()
            );
            ApiError::unavailable(message, "no_worker_ready", retry_after)
        })
    }

    fn enqueue(&self, max: usize) -> Option<Waiting<'_>> {
        let more = |waiting: usize| (waiting < max).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.depth.increment(1.0);
        Some(Waiting(self))
    }

    fn entries(&self) -> Arc<[Entry]> {
        Arc::clone(&self.replicas.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.depth.decrement(1.0);
    }
}

/// Where there are several pools, one is drawn by weight, the same for all requests of a conversation.
fn keep_one_pool(able: &mut Vec<&Entry>, conversation: u64) {
    let Some(first) = able.first() else { return };
    if able.iter().all(|entry| entry.pool == first.pool) {
        return;
    }
    let mut pools: Vec<&Arc<Pool>> = able.iter().map(|entry| &entry.pool).collect();
    pools.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    pools.dedup();
    let total: u64 = pools.iter().map(|pool| u64::from(pool.weight)).sum();
    // All have the weight 0, which means: only if there is no other.
    if total == 0 {
        return;
    }
    // The upper bits: the lower ones decide elsewhere.
    let mut drawn = ((u128::from(conversation) * u128::from(total)) >> 64) as u64;
    let drawn = pools.into_iter().find(|pool| {
        let weight = u64::from(pool.weight);
        let found = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        found
    });
    if let Some(drawn) = drawn.cloned() {
        able.retain(|entry| entry.pool == drawn);
    }
}

/// A weight by which each user has a favourite worker, and another one only if that is gone.
fn rendezvous(user: u64, worker: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(worker.as_bytes(), user)
}

#[cfg(test)]
mod tests;

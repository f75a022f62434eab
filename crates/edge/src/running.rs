//! The requests that a server has now, and the last ones that failed: what a dashboard shows of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// All requests that are not answered yet, in the order they came.
#[derive(Debug, Clone, Default)]
pub struct RunningRequests {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, Arc<Running>>,
    failed: VecDeque<FailedRequest>,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Running {
    /// What the client knows it as.
    pub request_id: String,
    /// Who asked.
    pub consumer: Arc<str>,
    /// The model that was asked for.
    pub model: Arc<str>,
    /// When it came.
    pub arrival: Instant,
    worker: Mutex<Option<String>>,
    stage: AtomicU8,
    tokens: AtomicU32,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestStage {
    /// It waits for a worker.
    Queued,
    /// A worker has it, and has sent nothing yet.
    Prefill,
    /// Its answer is on its way.
    Decode,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct FailedRequest {
    /// When it failed.
    pub time: SystemTime,
    /// What the client knows it as.
    pub request_id: String,
    /// The model that was asked for.
    pub model: Arc<str>,
    /// The worker it was sent to last, if any.
    pub worker: Option<String>,
    /// HTTP status that it was, or would have been, answered with.
    pub status: u16,
    /// What the client was told.
    pub message: String,
}

/// A request in the list; it leaves when dropped.
#[derive(Debug)]
pub struct Listed {
    all: RunningRequests,
    number: u64,
    /// The request.
    pub request: Arc<Running>,
}

/// Failures that are kept.
const MAX_FAILED: usize = 100;

// === impl RunningRequests ===

impl RunningRequests {
    /// A request has come.
    #[must_use]
    pub fn list(&self, request: Running) -> Listed {
        let request = Arc::new(request);
        let mut inner = lock(&self.inner);
        let number = inner.next;
        inner.next += 1;
        inner.running.insert(number, Arc::clone(&request));
        Listed { all: self.clone(), number, request }
    }

    /// The oldest ones, up to `most`.
    #[must_use]
    pub fn oldest(&self, most: usize) -> Vec<Arc<Running>> {
        lock(&self.inner).running.values().take(most).cloned().collect()
    }

    /// The last failures.
    #[must_use]
    pub fn failed(&self) -> Vec<FailedRequest> {
        lock(&self.inner).failed.iter().cloned().collect()
    }
}

// === impl Running ===

impl Running {
    /// A request of a consumer for a model, which waits.
    #[must_use]
    pub fn new(request_id: String, consumer: Arc<str>, model: Arc<str>, arrival: Instant) -> Self {
        Self {
            request_id,
            consumer,
            model,
            arrival,
            worker: Mutex::default(),
            stage: AtomicU8::new(0),
            tokens: AtomicU32::new(0),
        }
    }

    /// It waits.
    pub fn waits(&self) {
        self.stage.store(0, Ordering::Relaxed);
    }

    /// It is sent to this worker.
    pub fn sent(&self, worker: &str) {
        *lock(&self.worker) = Some(worker.to_owned());
        self.stage.store(1, Ordering::Relaxed);
    }

    /// It is computed here, without another worker.
    pub fn computes(&self) {
        self.stage.fetch_max(1, Ordering::Relaxed);
    }

    /// Its answer has begun.
    pub fn answered(&self) {
        self.stage.store(2, Ordering::Relaxed);
    }

    /// Its answer has this many tokens so far.
    pub fn count(&self, tokens: u32) {
        self.tokens.store(tokens, Ordering::Relaxed);
    }

    /// Its answer has one token more.
    pub fn token(&self) {
        self.answered();
        self.tokens.fetch_add(1, Ordering::Relaxed);
    }

    /// Tokens of its answer so far.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// The worker it was last sent to.
    #[must_use]
    pub fn worker(&self) -> Option<String> {
        lock(&self.worker).clone()
    }

    /// How far it is.
    #[must_use]
    pub fn stage(&self) -> RequestStage {
        match self.stage.load(Ordering::Relaxed) {
            0 => RequestStage::Queued,
            1 => RequestStage::Prefill,
            _ => RequestStage::Decode,
        }
    }
}

// === impl Listed ===

impl Listed {
    /// It has failed: remember what the client was told.
    pub fn failed(&self, status: u16, message: String) {
        let failed = FailedRequest {
            time: SystemTime::now(),
            request_id: self.request.request_id.clone(),
            model: Arc::clone(&self.request.model),
            worker: self.request.worker(),
            status,
            message,
        };
        let mut inner = lock(&self.all.inner);
        inner.failed.push_back(failed);
        if inner.failed.len() > MAX_FAILED {
            inner.failed.pop_front();
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.all.inner).running.remove(&self.number);
    }
}

/// A lock whose holder panicked still guards whole values here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(id: &str) -> Running {
        Running::new(id.to_owned(), "c".into(), "m".into(), Instant::now())
    }

    #[test]
    fn requests_are_listed_until_they_end() {
        let all = RunningRequests::default();
        let listed: Vec<_> = ["a", "b", "c"].map(|id| all.list(running(id))).into();
        listed[1].request.sent("w:1");
        let ids: Vec<_> = all.oldest(2).iter().map(|request| request.request_id.clone()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(
            (all.oldest(9)[1].worker().as_deref(), all.oldest(9)[1].stage()),
            (Some("w:1"), RequestStage::Prefill)
        );
        drop(listed);
        assert!(all.oldest(9).is_empty());
    }

    #[test]
    fn the_last_failures_are_kept() {
        let all = RunningRequests::default();
        for number in 0..MAX_FAILED + 3 {
            all.list(running(&number.to_string())).failed(503, "gone".to_owned());
        }
        let failed = all.failed();
        assert_eq!((failed.len(), failed[0].request_id.as_str(), failed[0].status), (MAX_FAILED, "3", 503));
    }
}

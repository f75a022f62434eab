//! The requests that a head has now, and the last ones that failed: what a dashboard shows of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use crate::worker::lock;

/// All requests that are not answered yet, in the order they came.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunningRequests {
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
pub(crate) struct Running {
    pub(crate) request_id: String,
    pub(crate) consumer: Arc<str>,
    pub(crate) model: Arc<str>,
    pub(crate) arrival: Instant,
    worker: Mutex<Option<String>>,
    stage: AtomicU8,
    tokens: AtomicU32,
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestStage {
    /// It waits for a worker.
    Queued,
    /// A worker has it, and has sent nothing yet.
    Prefill,
    /// Its answer is on its way.
    Decode,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub(crate) struct FailedRequest {
    pub(crate) time: SystemTime,
    pub(crate) request_id: String,
    pub(crate) model: Arc<str>,
    pub(crate) worker: Option<String>,
    pub(crate) status: u16,
    pub(crate) message: String,
}

/// A request in the list; it leaves when dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    all: RunningRequests,
    number: u64,
    pub(crate) request: Arc<Running>,
}

/// Failures that are kept.
const MAX_FAILED: usize = 100;

// === impl RunningRequests ===

impl RunningRequests {
    /// A request has come.
    pub(crate) fn list(&self, request: Running) -> Listed {
        let request = Arc::new(request);
        let mut inner = lock(&self.inner);
        let number = inner.next;
        inner.next += 1;
        inner.running.insert(number, Arc::clone(&request));
        Listed { all: self.clone(), number, request }
    }

    /// The oldest ones, up to `most`.
    pub(crate) fn oldest(&self, most: usize) -> Vec<Arc<Running>> {
        lock(&self.inner).running.values().take(most).cloned().collect()
    }

    /// The last failures.
    pub(crate) fn failed(&self) -> Vec<FailedRequest> {
        lock(&self.inner).failed.iter().cloned().collect()
    }
}

// === impl Running ===

impl Running {
    pub(crate) fn new(request_id: String, consumer: Arc<str>, model: Arc<str>, arrival: Instant) -> Self {
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
    pub(crate) fn waits(&self) {
        self.stage.store(0, Ordering::Relaxed);
    }

    /// It is sent to this worker.
    pub(crate) fn sent(&self, worker: &str) {
        *lock(&self.worker) = Some(worker.to_owned());
        self.stage.store(1, Ordering::Relaxed);
    }

    /// Its answer has begun.
    pub(crate) fn answered(&self) {
        self.stage.store(2, Ordering::Relaxed);
    }

    /// Its answer has this many tokens so far.
    pub(crate) fn count(&self, tokens: u32) {
        self.tokens.store(tokens, Ordering::Relaxed);
    }

    pub(crate) fn tokens(&self) -> u32 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// The worker it was last sent to.
    pub(crate) fn worker(&self) -> Option<String> {
        lock(&self.worker).clone()
    }

    pub(crate) fn stage(&self) -> RequestStage {
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
    pub(crate) fn failed(&self, status: u16, message: String) {
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

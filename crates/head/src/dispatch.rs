//! From a request to an answer: choose, ask, and ask another one while the client has not got a byte.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vlinders_edge::{Running, Trace};

use crate::attempt::{Answer, Failure, FailureKind, Told, attempt};
use crate::client::WorkerClient;
use crate::config::QueueConfig;
use crate::metrics::RequestMetrics;
use crate::model::Model;
use crate::request::RoutedRequest;
use crate::worker::Replica;

/// Further attempts after the first.
const MAX_RETRIES: usize = 2;

/// What every request of a head is sent with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dispatch<'a> {
    pub(crate) client: &'a WorkerClient,
    pub(crate) queue: &'a QueueConfig,
    pub(crate) retry_after: Duration,
    pub(crate) metrics: &'a RequestMetrics,
    pub(crate) trace: &'a Trace,
    /// The request in the list of those that run.
    pub(crate) listed: &'a Running,
}

// === impl Dispatch ===

impl Dispatch<'_> {
    /// Get an answer from a replica of `model`.
    ///
    /// # Errors
    /// What the client is to be told instead.
    pub(crate) async fn send(&self, model: &Model, request: &RoutedRequest) -> Result<Answer, Told> {
        model.retries.earn();
        let mut tried: Vec<Arc<Replica>> = Vec::new();
        let mut last: Option<Failure> = None;
        loop {
            let routing = self.trace.stage("route");
            let replica = match (self.choose(model, request, &tried), last.take()) {
                (Some(replica), _) => replica,
                // All that are there are busy: a client that knows comes back sooner than a queue moves.
                (None, Some(Failure { kind: FailureKind::Busy, told })) => return Err(told),
                (None, _) => self.wait(model, request, &tried).await?,
            };
            drop(routing);
            self.listed.sent(replica.worker.authority.as_str());
            model.sent(&replica, request);
            let stage = self.trace.stage("attempt");
            stage.note("server.address", replica.worker.authority.to_string());
            let failure = match attempt(self.client, &replica, request, &stage).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            stage.fail(failure.kind.as_str());
            tried.push(replica);
            if tried.len() > MAX_RETRIES || !model.retries.spend() {
                return Err(failure.told);
            }
            self.metrics.retried(failure.kind);
            last = Some(failure);
        }
    }

    fn choose(&self, model: &Model, request: &RoutedRequest, tried: &[Arc<Replica>]) -> Option<Arc<Replica>> {
        let start = Instant::now();
        let chosen = model.choose(request, tried);
        self.metrics.routing.record(start.elapsed().as_secs_f64());
        chosen
    }

    /// One that was tried before will do, if it is routable again.
    async fn wait(
        &self,
        model: &Model,
        request: &RoutedRequest,
        tried: &[Arc<Replica>],
    ) -> Result<Arc<Replica>, Told> {
        self.listed.waits();
        let ready = || model.choose(request, tried).or_else(|| model.choose(request, &[]));
        model.wait(self.queue, self.retry_after, ready).await.map_err(Told::Error)
    }
}

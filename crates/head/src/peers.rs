//! Other heads of the same workers: how many requests wait in each, so that whichever is asked by an autoscaler knows of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::client::WorkerClient;
use crate::discovery::{Discovery, Target};
use crate::worker::lock;

/// `GET /queue`: the requests that wait in a head.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueState {
    /// New with each start of a head.
    pub(crate) instance: String,
    /// Requests that wait for a worker, by model.
    pub(crate) waiting: HashMap<String, usize>,
}

/// What other heads said last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    said: Arc<Mutex<HashMap<String, QueueState>>>,
}

const INTERVAL: Duration = Duration::from_secs(1);

const TIMEOUT: Duration = Duration::from_secs(1);

/// The longest answer: some thousand models.
const MAX_BYTES: usize = 1 << 20;

// === impl Peers ===

impl Peers {
    /// Follow the heads that `discovery` finds; the one whose instance is `own` is this one.
    pub(crate) fn follow(&self, discovery: Box<dyn Discovery>, client: WorkerClient, own: String) {
        let (found, targets) = watch::channel(Vec::new());
        tokio::spawn(discovery.run(found));
        tokio::spawn(self.clone().ask(targets, client, own));
    }

    /// Requests that wait in other heads for a worker of `model`.
    pub(crate) fn waiting(&self, model: &str) -> usize {
        lock(&self.said).values().filter_map(|state| state.waiting.get(model)).sum()
    }

    async fn ask(self, mut targets: watch::Receiver<Vec<Target>>, client: WorkerClient, own: String) {
        loop {
            let known = targets.borrow_and_update().clone();
            let asked = known.iter().map(|target| ask(&client, target));
            let answers = futures::future::join_all(asked).await.into_iter().flatten();
            // One that does not answer is gone, and its queue with it.
            *lock(&self.said) = answers.filter(|(_, state)| state.instance != own).collect();
            let rest = tokio::time::timeout(INTERVAL, targets.changed()).await;
            if rest.is_ok_and(|changed| changed.is_err()) {
                return;
            }
        }
    }
}

async fn ask(client: &WorkerClient, target: &Target) -> Option<(String, QueueState)> {
    let authority = target.address.parse().ok()?;
    let asked = tokio::time::timeout(TIMEOUT, client.get(&authority, "/queue", MAX_BYTES)).await;
    let (status, body) = asked.ok()?.ok()?;
    let state = serde_json::from_slice(&body).ok().filter(|_| status.is_success())?;
    Some((target.address.clone(), state))
}

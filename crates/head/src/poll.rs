//! Asks one worker how it is, again and again: that is what routing knows, and how a dead one is noticed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use vlinders_api::WorkerState;

use crate::client::{WorkerClient, WorkerError};
use crate::config::HealthConfig;
use crate::fleet::Fleet;
use crate::worker::Worker;

/// Questions in a row that a busy worker may leave unanswered. One that refuses the connection is gone at once.
const MAX_SILENCES: u32 = 2;

/// The longest answer: some thousand models.
const MAX_BYTES: usize = 8 << 20;

/// No more often than this, however often it is nudged.
const LEAST_INTERVAL: Duration = Duration::from_millis(20);

/// Ask until the worker is gone.
pub(crate) async fn poll(fleet: Fleet, worker: Arc<Worker>, health: HealthConfig, gone: CancellationToken) {
    let mut silences = 0;
    loop {
        let asked = tokio::select! {
            asked = ask(fleet.client(), &worker, health.timeout) => asked,
            () = gone.cancelled() => return,
        };
        // A worker that left while it was asked must not come back by its last answer.
        if gone.is_cancelled() {
            return;
        }
        match asked {
            Ok(state) => {
                silences = 0;
                fleet.heard(&worker, state);
            }
            Err(error) => {
                silences += 1;
                worker.is_silent(Instant::now(), health.lost_timeout);
                if silences >= MAX_SILENCES || !error.is_timeout() {
                    fleet.not_heard(&worker, error.to_string());
                }
            }
        }
        tokio::time::sleep(LEAST_INTERVAL.min(health.interval)).await;
        tokio::select! {
            () = tokio::time::sleep(health.interval.saturating_sub(LEAST_INTERVAL)) => {}
            () = worker.nudge.notified() => {}
            () = gone.cancelled() => return,
        }
    }
}

async fn ask(client: &WorkerClient, worker: &Worker, timeout: Duration) -> Result<WorkerState, WorkerError> {
    let asked = client.get(&worker.authority, "/state", MAX_BYTES);
    let (status, body) =
        tokio::time::timeout(timeout, asked).await.map_err(|_| WorkerError::Timeout(timeout))??;
    if !status.is_success() {
        return Err(WorkerError::Status(status));
    }
    serde_json::from_slice(&body).map_err(WorkerError::State)
}

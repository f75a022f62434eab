//! When samples are taken, and who holds them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::MissedTickBehavior;

use crate::history::History;
use crate::router;
use crate::source::{ModelView, Snapshot, Source};

/// The pages of one head or server.
#[derive(Debug, Clone)]
pub struct Dashboard {
    shared: Arc<Shared>,
}

/// How pages are shown.
#[derive(Debug, Clone)]
pub struct DashboardOptions {
    /// The playground asks for an API key.
    pub api_needs_key: bool,
    /// Where the pages lie on this server, `/dashboard` by default; empty for the root. Links are relative, so it need
    /// not be what a browser sees behind a proxy.
    pub base_path: String,
}

/// What pages are made of.
pub(crate) struct Shared {
    pub(crate) options: DashboardOptions,
    source: Arc<dyn Source>,
    now: Mutex<Arc<Snapshot>>,
    history: Mutex<History>,
}

/// Time between samples.
const SAMPLE: Duration = Duration::from_secs(1);

// === impl Dashboard ===

impl Dashboard {
    /// Pages of `source`, which is sampled once a second from now on, as long as the dashboard or a router of it is
    /// there. To be called inside a Tokio runtime.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, options: DashboardOptions) -> Self {
        Self::with_past(source, options, std::iter::empty())
    }

    /// As [`Dashboard::new`], with samples that were taken earlier, oldest first.
    #[must_use]
    pub fn with_past(
        source: Arc<dyn Source>,
        mut options: DashboardOptions,
        past: impl IntoIterator<Item = (SystemTime, Vec<ModelView>)>,
    ) -> Self {
        let base = options.base_path.trim_matches('/');
        options.base_path = if base.is_empty() { String::new() } else { format!("/{base}") };
        let mut history = History::default();
        for (at, models) in past {
            history.record(at, &models);
        }
        let now = Arc::new(source.snapshot().bounded());
        history.record(SystemTime::now(), &now.models);
        let shared = Arc::new(Shared { options, source, now: Mutex::new(now), history: Mutex::new(history) });
        tokio::spawn(sample(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// All routes below the base path. Who may see them is decided by the layers that the host puts around.
    pub fn router(&self) -> axum::Router {
        router::router(Arc::clone(&self.shared))
    }
}

// === impl DashboardOptions ===

impl Default for DashboardOptions {
    fn default() -> Self {
        Self { api_needs_key: false, base_path: "/dashboard".to_owned() }
    }
}

// === impl Shared ===

impl Shared {
    /// The newest sample: however many pages are open, the source is asked once a second.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.now))
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    fn sample(&self) {
        let now = Arc::new(self.source.snapshot().bounded());
        self.history().record(SystemTime::now(), &now.models);
        *lock(&self.now) = now;
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

async fn sample(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(SAMPLE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.sample();
    }
}

/// A panic elsewhere leaves samples as they are; the pages go on with them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

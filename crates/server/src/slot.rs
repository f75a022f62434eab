//! The place of a model in a server: known by its names from the start, served once it is loaded.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use metrics::Gauge;
use vlinders_engine::{EngineHandle, Observer};
use vlinders_text::TextModel;

use crate::metrics::ServerMetrics;
use crate::model::{ModelNames, ModelSettings, ServedModel, now};

/// A place for one model. It is filled once and stays so.
#[derive(Debug)]
pub(crate) struct Slot {
    names: ModelNames,
    /// When the server began to offer it, seconds since 1970.
    created: u64,
    load: Mutex<LoadStatus>,
    /// How long each part of the load took.
    phases: OnceLock<Vec<(String, Duration)>>,
    served: OnceLock<Arc<ServedModel>>,
}

/// A model that is being loaded, with the right to put it into its place.
#[derive(Debug)]
pub struct LoadingModel {
    slot: Arc<Slot>,
    metrics: Arc<ServerMetrics>,
    progress: Gauge,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoadStatus {
    /// A word for people and dashboards.
    pub(crate) phase: &'static str,
    /// Bytes of the weights that are in place.
    pub(crate) done: u64,
    /// 0 until it is known.
    pub(crate) total: u64,
}

/// The condition of a model, as probes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Loading(LoadStatus),
    Ready,
    Draining,
    /// It has work, and has completed no step for this long.
    Stalled(Duration),
    Failed(String),
}

// === impl Slot ===

impl Slot {
    pub(crate) fn new(names: ModelNames) -> Self {
        let waiting = LoadStatus { phase: "waiting", done: 0, total: 0 };
        let load = Mutex::new(waiting);
        Self { names, created: now(), load, phases: OnceLock::new(), served: OnceLock::new() }
    }

    pub(crate) fn names(&self) -> &ModelNames {
        &self.names
    }

    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    /// The model, once it is loaded.
    pub(crate) fn served(&self) -> Option<&Arc<ServedModel>> {
        self.served.get()
    }

    pub(crate) fn load_status(&self) -> LoadStatus {
        *self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long each part of the load took, once it is over.
    pub(crate) fn load_phases(&self) -> &[(String, Duration)] {
        self.phases.get().map_or(&[], Vec::as_slice)
    }

    pub(crate) fn condition(&self, now: Instant, stall_timeout: Duration) -> Condition {
        match self.served() {
            Some(model) => model.condition(now, stall_timeout),
            None => Condition::Loading(self.load_status()),
        }
    }
}

// === impl LoadingModel ===

impl LoadingModel {
    pub(crate) fn new(slot: Arc<Slot>, metrics: Arc<ServerMetrics>) -> Self {
        let progress = metrics.load_progress(&slot.names.name);
        Self { slot, metrics, progress }
    }

    /// The name clients ask for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.slot.names.name
    }

    /// What the engine of the model is to be started with.
    #[must_use]
    pub fn observer(&self) -> Box<dyn Observer> {
        self.metrics.observer(self.name())
    }

    /// Tell probes that a phase of the load begins.
    pub fn phase(&self, phase: &'static str) {
        self.slot.load.lock().unwrap_or_else(PoisonError::into_inner).phase = phase;
    }

    /// Tell probes how many bytes of the weights are in place.
    pub fn bytes(&self, done: u64, total: u64) {
        let mut load = self.slot.load.lock().unwrap_or_else(PoisonError::into_inner);
        (load.done, load.total) = (done, total);
        self.progress.set(load.ratio());
    }

    /// Export how long each phase of the load took.
    pub fn report(&self, phases: &[(&str, Duration)]) {
        for (phase, duration) in phases {
            self.metrics.load_seconds(self.name(), phase).set(duration.as_secs_f64());
        }
        let phases = phases.iter().map(|(phase, duration)| ((*phase).to_owned(), *duration)).collect();
        // Reported once; a second report would be of another load, which there is not.
        let _ = self.slot.phases.set(phases);
    }

    /// Serve the model from now on.
    pub fn serve(self, settings: ModelSettings, engine: EngineHandle, text: Arc<TextModel>) {
        let model = ServedModel::new(self.slot.names.clone(), settings, engine, text, &self.metrics);
        self.progress.set(1.0);
        // A place has one loader, which is used up here, so the place is empty.
        let _ = self.slot.served.set(Arc::new(model));
    }
}

// === impl LoadStatus ===

impl LoadStatus {
    /// Share of the weights that is in place, 0 to 1.
    pub(crate) fn ratio(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.done.min(self.total) as f64 / self.total as f64 }
    }
}

impl fmt::Display for LoadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.phase)?;
        if self.total > 0 { write!(f, ", {:.0} %", 100.0 * self.ratio()) } else { Ok(()) }
    }
}

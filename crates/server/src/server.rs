//! What all requests share, and how a model is found by name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vlinders_edge::{Admission, ApiError};
use vlinders_engine::EngineState;

use crate::config::ServerConfig;
use crate::metrics::ServerMetrics;
use crate::model::ServedModel;
use crate::progress::Progress;

/// A server: its models, its limits, its door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ServerConfig,
    models: Vec<Arc<ServedModel>>,
    progress: Mutex<Vec<Progress>>,
    admission: Admission,
    metrics: Arc<ServerMetrics>,
}

/// Models that can not be served together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidModels {
    /// There is none.
    #[error("no model is to be served; name or enable at least one")]
    None,
    /// Two have the same name or alias.
    #[error("two models have the name or alias '{0}'; rename one")]
    SameName(String),
}

/// The condition of a model, as probes see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    Draining,
    /// It has work, and has completed no step for this long.
    Stalled(Duration),
    Failed(String),
}

// === impl Server ===

impl Server {
    /// A server of these models; `metrics` is what their engines are observed by.
    ///
    /// # Errors
    /// There is no model, or two have the same name.
    pub fn new(
        config: ServerConfig,
        models: Vec<ServedModel>,
        metrics: Arc<ServerMetrics>,
    ) -> Result<Self, InvalidModels> {
        if models.is_empty() {
            return Err(InvalidModels::None);
        }
        let mut names = HashSet::new();
        if let Some(twice) = models.iter().flat_map(ServedModel::names).find(|name| !names.insert(*name)) {
            return Err(InvalidModels::SameName(twice.to_owned()));
        }
        let now = Instant::now();
        let inner = Inner {
            admission: Admission::new(config.max_in_flight, config.retry_after),
            progress: Mutex::new(models.iter().map(|_| Progress::new(now)).collect()),
            models: models.into_iter().map(Arc::new).collect(),
            config,
            metrics,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.inner.config
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    pub(crate) fn metrics(&self) -> &Arc<ServerMetrics> {
        &self.inner.metrics
    }

    pub(crate) fn models(&self) -> &[Arc<ServedModel>] {
        &self.inner.models
    }

    /// The model that a request asks for. A request that names none gets the only one there is.
    pub(crate) fn model(&self, asked: Option<&str>) -> Result<&Arc<ServedModel>, ApiError> {
        let models = self.models();
        match asked {
            Some(asked) => models
                .iter()
                .find(|model| model.names().any(|name| name == asked))
                .ok_or_else(|| ApiError::model_not_found(asked, &self.names())),
            None if models.len() == 1 => Ok(&models[0]),
            None => Err(ApiError::invalid(
                "model",
                format!("name one of the models: {}", self.names().join(", ")),
            )
            .with_code("missing_required_parameter")),
        }
    }

    fn names(&self) -> Vec<&str> {
        self.models().iter().flat_map(|model| model.names()).collect()
    }

    /// The condition of each model, in order.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let now = Instant::now();
        let mut progress = self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let models = self.models().iter().zip(progress.iter_mut());
        models.map(|(model, progress)| self.condition(model, progress, now)).collect()
    }

    fn condition(&self, model: &ServedModel, progress: &mut Progress, now: Instant) -> Condition {
        let stats = model.engine.stats();
        let still = progress.observe(now, stats.has_work, stats.steps);
        match model.engine.state() {
            EngineState::Failed(why) => Condition::Failed(why),
            _ if still > self.config().stall_timeout => Condition::Stalled(still),
            EngineState::Draining | EngineState::Stopped => Condition::Draining,
            EngineState::Running => Condition::Ready,
        }
    }

    /// Takes new requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.admission().is_closed()
    }
}

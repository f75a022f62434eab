//! What all requests share, and how a model is found by name.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vlinders_edge::{Admission, ApiError, Bodies, RunningRequests};

use crate::config::ServerConfig;
use crate::metrics::ServerMetrics;
use crate::model::{ModelNames, ServedModel, now};
use crate::slot::{Condition, LoadingModel, Slot};

/// A server: its models, its limits, its door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ServerConfig,
    slots: Vec<Arc<Slot>>,
    bodies: Bodies,
    admission: Admission,
    metrics: Arc<ServerMetrics>,
    running: RunningRequests,
    /// New with each start.
    instance: String,
    /// Seconds since 1970.
    started: u64,
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

/// Who asks for a model that is still being loaded is told to come back after this long: loading takes seconds at
/// least, and each attempt sends the whole request.
const LOADING_RETRY: Duration = Duration::from_secs(5);

// === impl Server ===

impl Server {
    /// A server of models with these names, and the means to put each into its place once it is loaded. It can be
    /// served at once: until then it says that they are loading.
    ///
    /// # Errors
    /// There is no model, or two have the same name.
    pub fn new(
        config: ServerConfig,
        models: Vec<ModelNames>,
        metrics: Arc<ServerMetrics>,
    ) -> Result<(Self, Vec<LoadingModel>), InvalidModels> {
        if models.is_empty() {
            return Err(InvalidModels::None);
        }
        let mut names = HashSet::new();
        if let Some(twice) = models.iter().flat_map(ModelNames::all).find(|name| !names.insert(*name)) {
            return Err(InvalidModels::SameName(twice.to_owned()));
        }
        let slots: Vec<_> = models.into_iter().map(|names| Arc::new(Slot::new(names))).collect();
        let loading = slots.iter().map(|slot| LoadingModel::new(Arc::clone(slot), Arc::clone(&metrics)));
        let loading = loading.collect();
        let admission = Admission::new(config.max_in_flight, config.retry_after);
        let bodies = Bodies::new(config.body, config.retry_after);
        let instance = uuid::Uuid::new_v4().simple().to_string();
        let inner = Inner {
            config,
            slots,
            bodies,
            admission,
            metrics,
            running: RunningRequests::default(),
            instance,
            started: now(),
        };
        Ok((Self { inner: Arc::new(inner) }, loading))
    }

    /// Name and time of this start.
    pub(crate) fn birth(&self) -> (&str, u64) {
        (&self.inner.instance, self.inner.started)
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.inner.config
    }

    pub(crate) fn bodies(&self) -> &Bodies {
        &self.inner.bodies
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    pub(crate) fn running(&self) -> &RunningRequests {
        &self.inner.running
    }

    pub(crate) fn metrics(&self) -> &Arc<ServerMetrics> {
        &self.inner.metrics
    }

    /// The places of all models.
    pub(crate) fn slots(&self) -> &[Arc<Slot>] {
        &self.inner.slots
    }

    /// The models that are loaded.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.slots().iter().filter_map(|slot| slot.served())
    }

    /// The place of the model that a client names.
    pub(crate) fn slot(&self, asked: &str) -> Result<&Slot, ApiError> {
        let found = self.slots().iter().find(|slot| slot.names().all().any(|name| name == asked));
        found.map(Arc::as_ref).ok_or_else(|| ApiError::model_not_found(asked, &self.names()))
    }

    /// The model that a request asks for. A request that names none gets the only one there is.
    pub(crate) fn model(&self, asked: Option<&str>) -> Result<&Arc<ServedModel>, ApiError> {
        let slot = match (asked, self.slots()) {
            (Some(asked), _) => self.slot(asked)?,
            (None, [only]) => only,
            (None, _) => {
                let message = format!("name one of the models: {}", self.names().join(", "));
                return Err(ApiError::invalid("model", message).with_code("missing_required_parameter"));
            }
        };
        slot.served().ok_or_else(|| {
            let (name, status) = (&slot.names().name, slot.load_status());
            let message = format!("the model '{name}' is being loaded ({status}); retry later");
            ApiError::unavailable(message, "model_loading", LOADING_RETRY)
        })
    }

    fn names(&self) -> Vec<&str> {
        self.slots().iter().flat_map(|slot| slot.names().all()).collect()
    }

    /// The condition of each model, in order.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let now = Instant::now();
        self.slots().iter().map(|slot| slot.condition(now, self.config().stall_timeout)).collect()
    }

    /// Takes new requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.admission().is_closed()
    }
}

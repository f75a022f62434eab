//! What the dashboard of a head shows.

use std::sync::Arc;
use std::time::Instant;

use vlinders_api::{ModelCondition, ModelState};
use vlinders_dashboard::{
    ModelView, Role, Snapshot, Source, WorkerState, WorkerView, errors, phases, requests,
};

use crate::breaker::Circuit;
use crate::discovery::Stage as TargetStage;
use crate::head::Head;
use crate::model::Model;
use crate::worker::{Known, Replica};

impl Source for Head {
    fn snapshot(&self) -> Snapshot {
        let models = self.fleet().models();
        Snapshot {
            role: Role::Head,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started(),
            models: models.iter().map(|model| model_view(model)).collect(),
            workers: models.iter().flat_map(|model| worker_views(model)).collect(),
            requests: requests(self.running()),
            errors: errors(self.running()),
        }
    }
}

fn model_view(model: &Model) -> ModelView {
    let replicas = model.replicas();
    let known = |replica: &Arc<Replica>| state_of(&replica.worker.known(), model);
    let states: Vec<_> = replicas.iter().filter_map(known).collect();
    let sum = |count: fn(&ModelState) -> usize| states.iter().map(count).sum();
    let usage: f64 = states.iter().map(|state| state.kv_usage).sum();
    let totals = model.totals();
    ModelView {
        name: model.offer.name.to_string(),
        aliases: model.offer.aliases.clone(),
        ready_workers: model.num_routable(),
        workers: replicas.len(),
        queued: model.num_waiting(),
        running: sum(|state| state.running),
        waiting: sum(|state| state.waiting),
        kv_usage: if states.is_empty() { 0.0 } else { usage / states.len() as f64 },
        totals: totals.into(),
    }
}

fn worker_views(model: &Model) -> Vec<WorkerView> {
    model.replicas().iter().map(|replica| worker_view(replica, model)).collect()
}

fn worker_view(replica: &Replica, model: &Model) -> WorkerView {
    let worker = &replica.worker;
    let target = worker.target();
    let known = worker.known();
    let reported = state_of(&known, model).unwrap_or_default();
    let Known { state, silence } = known;
    let open = state.as_ref().is_some_and(|state| state.open);
    let shown = match reported.condition {
        _ if silence.is_some() => WorkerState::Unreachable,
        ModelCondition::Ready if !open || target.stage == TargetStage::Terminating => WorkerState::Draining,
        ModelCondition::Ready if !replica.is_ready() && target.stage == TargetStage::Ready => {
            WorkerState::Stalled
        }
        condition => condition.into(),
    };
    let stalled = (shown == WorkerState::Stalled).then(|| "it has work and completes no step".to_owned());
    WorkerView {
        id: target.name.unwrap_or_else(|| target.address.clone()),
        address: target.address,
        model: model.offer.name.to_string(),
        state: shown,
        why: silence.or(reported.why).or(stalled),
        ranks: reported.ranks.max(1),
        running: reported.running,
        waiting: reported.waiting,
        kv_usage: reported.kv_usage,
        in_flight: replica.in_flight() as usize,
        circuit: match worker.circuit(Instant::now()) {
            Circuit::Closed => vlinders_dashboard::Circuit::Closed,
            Circuit::HalfOpen => vlinders_dashboard::Circuit::HalfOpen,
            Circuit::Open => vlinders_dashboard::Circuit::Open,
        },
        load_progress: (shown == WorkerState::Loading).then_some(reported.load_progress),
        phases: phases(&reported.load_phases),
        version: state.map_or_else(String::new, |state| state.version.clone()),
        since: replica.since(),
    }
}

/// What a worker last said of the model.
fn state_of(known: &Known, model: &Model) -> Option<ModelState> {
    known.state.as_ref()?.model(&model.offer.name).cloned()
}

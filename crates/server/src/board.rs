//! What the dashboard of a server alone shows: its models, each as a worker of its own.

use std::time::{Duration, SystemTime};

use vlinders_api::{ModelCondition, ModelState, WorkerState as Reported};
use vlinders_dashboard::{Circuit, ModelView, Role, Snapshot, Source, WorkerView, errors, phases, requests};

use crate::server::Server;

impl Source for Server {
    fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(state.started);
        let workers = state.models.iter().map(|model| worker_view(&state, model, started)).collect();
        Snapshot {
            role: Role::Serve,
            version: state.version.clone(),
            started,
            workers,
            models: state.models.into_iter().map(model_view).collect(),
            requests: requests(self.running()),
            errors: errors(self.running()),
        }
    }
}

fn model_view(model: ModelState) -> ModelView {
    let totals = model.totals;
    ModelView {
        name: model.name,
        aliases: model.aliases,
        ready_workers: usize::from(model.condition == ModelCondition::Ready),
        workers: 1,
        queued: 0,
        running: model.running,
        waiting: model.waiting,
        kv_usage: model.kv_usage,
        totals: totals.into(),
    }
}

fn worker_view(server: &Reported, model: &ModelState, started: SystemTime) -> WorkerView {
    WorkerView {
        id: model.name.clone(),
        address: "this server".to_owned(),
        model: model.name.clone(),
        state: model.condition.into(),
        why: model.why.clone(),
        ranks: model.ranks.max(1),
        running: model.running,
        waiting: model.waiting,
        kv_usage: model.kv_usage,
        in_flight: model.running + model.waiting,
        circuit: Circuit::Closed,
        load_progress: (model.condition == ModelCondition::Loading).then_some(model.load_progress),
        phases: phases(&model.load_phases),
        version: server.version.clone(),
        since: started,
    }
}

//! What the dashboard of a server alone shows: its models, each as a worker of its own.

use std::time::{Duration, SystemTime};

use vlinders_api::{HistogramTotals, ModelCondition, ModelState, WorkerState as Reported};
use vlinders_dashboard::{Circuit, ModelView, Role, Snapshot, Source, Totals, WorkerState, WorkerView};

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
            requests: Vec::new(),
            errors: Vec::new(),
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
        totals: Totals {
            prompt_tokens: totals.prompt_tokens,
            generation_tokens: totals.generation_tokens,
            prefix_queries: totals.prefix_queries,
            prefix_hits: totals.prefix_hits,
            requests_ok: totals.finished,
            requests_failed: totals.failed,
            first_token: histogram(totals.first_token),
            between_tokens: histogram(totals.between_tokens),
        },
    }
}

fn worker_view(server: &Reported, model: &ModelState, started: SystemTime) -> WorkerView {
    let phases = model.load_phases.iter();
    WorkerView {
        id: model.name.clone(),
        address: "this server".to_owned(),
        model: model.name.clone(),
        state: match model.condition {
            ModelCondition::Loading => WorkerState::Loading,
            ModelCondition::Ready => WorkerState::Ready,
            ModelCondition::Draining => WorkerState::Draining,
            ModelCondition::Stalled => WorkerState::Stalled,
            ModelCondition::Failed => WorkerState::Failed,
        },
        why: model.why.clone(),
        ranks: model.ranks.max(1),
        running: model.running,
        waiting: model.waiting,
        kv_usage: model.kv_usage,
        in_flight: model.running + model.waiting,
        circuit: Circuit::Closed,
        load_progress: (model.condition == ModelCondition::Loading).then_some(model.load_progress),
        phases: phases.map(|phase| (phase.name.clone(), Duration::from_secs_f64(phase.seconds))).collect(),
        version: server.version.clone(),
        since: started,
    }
}

fn histogram(totals: HistogramTotals) -> vlinders_dashboard::HistogramTotals {
    vlinders_dashboard::HistogramTotals { bounds: totals.bounds, counts: totals.counts }
}

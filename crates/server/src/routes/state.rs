//! `GET /state`: the server as the head sees it.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use vlinders_api::{LoadPhase, ModelCondition, ModelState, ModelTotals, WorkerState};

use crate::model::ServedModel;
use crate::server::Server;
use crate::slot::{Condition, Slot};

/// Everything that routing, probes and dashboards want to know.
pub(crate) async fn state(State(server): State<Server>) -> Json<WorkerState> {
    Json(server.state())
}

// === impl Server ===

impl Server {
    /// The server as it is now.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        let (instance, started) = self.birth();
        let pairs = self.slots().iter().zip(self.conditions());
        WorkerState {
            instance: instance.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            open: self.is_open(),
            in_flight: self.admission().in_flight(),
            models: pairs.map(|(slot, condition)| model_state(slot, &condition)).collect(),
        }
    }
}

fn model_state(slot: &Slot, condition: &Condition) -> ModelState {
    let (word, why) = match condition {
        Condition::Loading(status) => (ModelCondition::Loading, Some(status.to_string())),
        Condition::Ready => (ModelCondition::Ready, None),
        Condition::Draining => (ModelCondition::Draining, None),
        Condition::Stalled(time) => {
            (ModelCondition::Stalled, Some(format!("it has work and no step for {} s", time.as_secs())))
        }
        Condition::Failed(why) => (ModelCondition::Failed, Some(why.clone())),
    };
    let names = slot.names();
    let phases = slot.load_phases();
    let state = ModelState {
        name: names.name.clone(),
        aliases: names.aliases.clone(),
        condition: word,
        why,
        load_progress: slot.load_status().ratio(),
        load_phases: phases
            .iter()
            .map(|(name, took)| LoadPhase { name: name.clone(), seconds: took.as_secs_f64() })
            .collect(),
        ..ModelState::default()
    };
    match slot.served() {
        Some(model) => served_state(model, state),
        None => state,
    }
}

fn served_state(model: &ServedModel, state: ModelState) -> ModelState {
    let stats = model.engine.stats();
    let config = model.engine.config();
    let (metrics, ended) = (&model.metrics, &model.metrics.ended);
    ModelState {
        load_progress: 1.0,
        max_model_len: Some(model.settings.max_model_len),
        ranks: model.settings.ranks,
        running: stats.running,
        waiting: stats.waiting,
        kv_usage: stats.blocks_used as f64 / stats.blocks_total.max(1) as f64,
        kv_tokens: config.num_blocks.saturating_mul(config.block_size),
        steps: stats.steps,
        has_work: stats.has_work,
        totals: ModelTotals {
            prompt_tokens: stats.prompt_tokens,
            generation_tokens: stats.generation_tokens,
            prefix_queries: stats.prefix_query_tokens,
            prefix_hits: stats.prefix_hit_tokens,
            finished: ended.finished.load(Ordering::Relaxed),
            aborted: ended.aborted.load(Ordering::Relaxed),
            failed: ended.failed.load(Ordering::Relaxed),
            first_token: metrics.first_token.totals(),
            between_tokens: metrics.between_tokens.totals(),
        },
        ..state
    }
}

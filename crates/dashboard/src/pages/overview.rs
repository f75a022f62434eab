//! The overview: models now, and the last minutes of one of them.

use std::time::SystemTime;

use askama::Template;

use crate::format::{Unit, duration, machine_moment, moment, query, since, time_of_day};
use crate::history::{History, Slot};
use crate::plot::{Plot, PlotSpec};
use crate::range::Range;
use crate::source::{ModelView, Role, Snapshot, WorkerState};

/// What the reader chose to see.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) range: Range,
    /// The first one if this is none or gone.
    pub(crate) model: Option<String>,
}

/// Content of the page.
#[derive(Template)]
#[template(path = "overview.html")]
pub(crate) struct OverviewLive {
    is_head: bool,
    now: String,
    now_machine: String,
    started: String,
    started_machine: String,
    up: String,
    ready_workers: usize,
    workers: usize,
    models: Vec<ModelRow>,
    /// The model of the plots.
    model: Option<String>,
    range_words: &'static str,
    ranges: Vec<Link>,
    plots: Vec<Plot>,
}

/// A model in the table.
struct ModelRow {
    name: String,
    aliases: String,
    link: String,
    is_shown: bool,
    workers: String,
    /// Too few of its workers take requests.
    is_short: bool,
    running: usize,
    waiting: usize,
    queued: usize,
    kv_value: String,
    kv: String,
    prompt: String,
    generation: String,
    first_token: String,
    ok: String,
    failed: String,
    has_failed: bool,
}

struct Link {
    text: &'static str,
    href: String,
    is_current: bool,
}

// === impl Shown ===

impl Shown {
    /// As a query.
    pub(crate) fn query(&self) -> String {
        link(self.range, self.model.as_deref())
    }
}

// === impl OverviewLive ===

impl OverviewLive {
    pub(crate) fn new(snapshot: &Snapshot, history: &History, shown: &Shown) -> Self {
        let chosen = snapshot.models.iter().find(|model| Some(&model.name) == shown.model.as_ref());
        let chosen = chosen.or(snapshot.models.first()).map(|model| model.name.clone());
        let (range, now) = (shown.range, SystemTime::now());
        let ready = snapshot.workers.iter().filter(|worker| worker.state == WorkerState::Ready);
        let models = snapshot.models.iter();
        Self {
            is_head: snapshot.role == Role::Head,
            now: time_of_day(now),
            now_machine: machine_moment(now),
            started: moment(snapshot.started),
            started_machine: machine_moment(snapshot.started),
            up: duration(since(snapshot.started)),
            ready_workers: ready.count(),
            workers: snapshot.workers.len(),
            models: models.map(|model| ModelRow::new(model, history, range, chosen.as_deref())).collect(),
            range_words: range.words(),
            ranges: Range::ALL
                .map(|other| Link {
                    text: other.words(),
                    href: link(other, shown.model.as_deref()),
                    is_current: other == range,
                })
                .into(),
            plots: chosen
                .as_deref()
                .map(|name| plots(snapshot.role, history, range, name))
                .unwrap_or_default(),
            model: chosen,
        }
    }
}

// === impl ModelRow ===

impl ModelRow {
    fn new(model: &ModelView, history: &History, range: Range, chosen: Option<&str>) -> Self {
        // the last slots together: one alone is a rate of a second or two
        let lately = history.bins(&model.name, 15, 15).pop().flatten().unwrap_or_default();
        let failed = lately.failed_rate();
        Self {
            name: model.name.clone(),
            aliases: model.aliases.join(", "),
            link: link(range, Some(&model.name)),
            is_shown: chosen == Some(&model.name),
            workers: format!("{} / {}", model.ready_workers, model.workers),
            is_short: model.ready_workers < model.workers,
            running: model.running,
            waiting: model.waiting,
            queued: model.queued,
            kv_value: format!("{:.3}", model.kv_usage.clamp(0.0, 1.0)),
            kv: Unit::Share.write(Some(model.kv_usage)),
            prompt: Unit::TokensPerSecond.write(lately.prompt_rate()),
            generation: Unit::TokensPerSecond.write(lately.generation_rate()),
            first_token: Unit::Seconds.write(lately.first_token.quantile(0.95)),
            ok: rate(lately.ok_rate()),
            failed: rate(failed),
            has_failed: failed.is_some_and(|rate| rate > 0.0),
        }
    }
}

fn rate(value: Option<f64>) -> String {
    value.map_or_else(
        || Unit::Requests.write(None),
        |value| format!("{} /s", Unit::Requests.write(Some(value))),
    )
}

fn link(range: Range, model: Option<&str>) -> String {
    let model = model.map(|name| format!("&model={}", query(name))).unwrap_or_default();
    format!("?range={}{model}", range.name())
}

fn plots(role: Role, history: &History, range: Range, model: &str) -> Vec<Plot> {
    let bins = history.steady_bins(model, range.seconds(), range.step());
    let rows = history.bins(model, range.seconds(), range.row());
    specs(role).iter().map(|spec| Plot::new(spec, range, &bins, &rows)).collect()
}

/// The plots, in their order.
fn specs(role: Role) -> Vec<PlotSpec> {
    let mut queue: Vec<(_, fn(&Slot) -> _)> = vec![("running", Slot::running), ("waiting", Slot::waiting)];
    if role == Role::Head {
        queue.push(("queued here", Slot::queued));
    }
    vec![
        PlotSpec {
            id: "tokens",
            title: "Tokens per second",
            unit: Unit::TokensPerSecond,
            lines: vec![("generated", Slot::generation_rate), ("prompt", Slot::prompt_rate)],
        },
        PlotSpec {
            id: "first-token",
            title: "Time to first token",
            unit: Unit::Seconds,
            lines: vec![
                ("p50", |slot| slot.first_token.quantile(0.5)),
                ("p95", |slot| slot.first_token.quantile(0.95)),
                ("p99", |slot| slot.first_token.quantile(0.99)),
            ],
        },
        PlotSpec {
            id: "between-tokens",
            title: "Time between tokens",
            unit: Unit::Seconds,
            lines: vec![
                ("p50", |slot| slot.between_tokens.quantile(0.5)),
                ("p95", |slot| slot.between_tokens.quantile(0.95)),
                ("p99", |slot| slot.between_tokens.quantile(0.99)),
            ],
        },
        PlotSpec { id: "queue", title: "Requests", unit: Unit::Requests, lines: queue },
        PlotSpec {
            id: "kv",
            title: "KV cache in use",
            unit: Unit::Share,
            lines: vec![("in use", Slot::kv_usage)],
        },
        PlotSpec {
            id: "prefix",
            title: "Prefix cache hits",
            unit: Unit::Share,
            lines: vec![("hit rate", Slot::hit_rate)],
        },
    ]
}

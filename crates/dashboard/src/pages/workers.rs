//! The workers: state, load, and what their cold start took.

use std::time::Duration;

use askama::Template;

use crate::format::{Unit, duration, machine_moment, minute, since};
use crate::source::{Circuit, Snapshot, WorkerState, WorkerView};

/// Content of the page.
#[derive(Template)]
#[template(path = "workers.html")]
pub(crate) struct WorkersLive {
    workers: Vec<WorkerRow>,
    starts: Vec<Start>,
}

struct WorkerRow {
    id: String,
    address: String,
    model: String,
    sign: &'static str,
    state: &'static str,
    why: String,
    /// Value of the progress bar and its text, while loading.
    progress: Option<(String, String)>,
    since: String,
    since_machine: String,
    age: String,
    ranks: usize,
    running: usize,
    waiting: usize,
    in_flight: usize,
    kv_value: String,
    kv: String,
    circuit: &'static str,
    is_open: bool,
    version: String,
}

/// The cold start of a worker.
struct Start {
    id: String,
    total: String,
    phases: Vec<Phase>,
}

/// A part of it: a run of a bar that is 100 wide.
struct Phase {
    name: String,
    time: String,
    x: String,
    width: String,
    class: usize,
}

/// Patterns of bars that the style sheet knows.
const PATTERNS: usize = 6;

// === impl WorkersLive ===

impl WorkersLive {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let starts = snapshot.workers.iter().filter(|worker| !worker.phases.is_empty());
        Self {
            workers: snapshot.workers.iter().map(WorkerRow::new).collect(),
            starts: starts.map(|worker| Start::new(&worker.id, &worker.phases)).collect(),
        }
    }
}

// === impl WorkerRow ===

impl WorkerRow {
    fn new(worker: &WorkerView) -> Self {
        let (sign, state) = worker.state.sign();
        let progress = worker.load_progress.filter(|_| worker.state == WorkerState::Loading);
        Self {
            id: worker.id.clone(),
            address: worker.address.clone(),
            model: worker.model.clone(),
            sign,
            state,
            why: worker.why.clone().unwrap_or_default(),
            progress: progress
                .map(|share| (format!("{:.3}", share.clamp(0.0, 1.0)), Unit::Share.write(Some(share)))),
            since: minute(worker.since),
            since_machine: machine_moment(worker.since),
            age: duration(since(worker.since)),
            ranks: worker.ranks,
            running: worker.running,
            waiting: worker.waiting,
            in_flight: worker.in_flight,
            kv_value: format!("{:.3}", worker.kv_usage.clamp(0.0, 1.0)),
            kv: Unit::Share.write(Some(worker.kv_usage)),
            circuit: worker.circuit.word(),
            is_open: worker.circuit != Circuit::Closed,
            version: worker.version.clone(),
        }
    }
}

// === impl Start ===

impl Start {
    fn new(id: &str, phases: &[(String, Duration)]) -> Self {
        let total: Duration = phases.iter().map(|(_, time)| *time).sum();
        let share = |time: Duration| {
            if total.is_zero() { 0.0 } else { 100.0 * time.as_secs_f64() / total.as_secs_f64() }
        };
        let mut before = Duration::ZERO;
        let phases = phases.iter().enumerate().map(|(idx, (name, time))| {
            let phase = Phase {
                name: name.clone(),
                time: duration(*time),
                x: format!("{:.2}", share(before)),
                width: format!("{:.2}", share(*time)),
                class: idx % PATTERNS,
            };
            before += *time;
            phase
        });
        Self { id: id.to_owned(), phases: phases.collect(), total: duration(total) }
    }
}

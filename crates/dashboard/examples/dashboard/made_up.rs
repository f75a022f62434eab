//! Data that nobody measured.

use std::f64::consts::TAU;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use vlinders_dashboard::{
    Circuit, ErrorView, HistogramTotals, ModelView, RequestView, Role, Snapshot, Source, Stage, Totals,
    WorkerState, WorkerView,
};
use vlinders_edge::buckets;

pub(crate) const MODELS: [&str; 3] = ["qwen3-30b-a3b", "llama-3.1-8b-instruct", "embeddings"];

/// A cluster whose load goes up and down.
pub(crate) struct MadeUp {
    started: SystemTime,
    now: Mutex<(SystemTime, Vec<ModelView>)>,
}

impl MadeUp {
    /// The source, and what it did in the last hour.
    pub(crate) fn with_an_hour() -> (Self, Vec<(SystemTime, Vec<ModelView>)>) {
        let now = SystemTime::now();
        let started = now - Duration::from_secs(3600);
        let mut models: Vec<ModelView> =
            MODELS.iter().enumerate().map(|(idx, name)| new(idx, name)).collect();
        let mut past = Vec::new();
        for second in 0..3600 {
            let at = started + Duration::from_secs(second);
            for (idx, model) in models.iter_mut().enumerate() {
                go_on(idx, model, seconds(at), 1.0);
            }
            past.push((at, models.clone()));
        }
        (Self { started, now: Mutex::new((now, models)) }, past)
    }
}

impl Source for MadeUp {
    fn snapshot(&self) -> Snapshot {
        let mut state = self.now.lock().expect("nobody panics here");
        let now = SystemTime::now();
        let passed = now.duration_since(state.0).unwrap_or_default().as_secs_f64();
        state.0 = now;
        for (idx, model) in state.1.iter_mut().enumerate() {
            go_on(idx, model, seconds(now), passed);
        }
        Snapshot {
            role: Role::Head,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            models: state.1.clone(),
            workers: workers(now, &state.1),
            requests: requests(now),
            errors: errors(now),
        }
    }
}

fn new(idx: usize, name: &str) -> ModelView {
    let totals = Totals {
        first_token: HistogramTotals::new(buckets::FIRST_TOKEN),
        between_tokens: HistogramTotals::new(buckets::BETWEEN_TOKENS),
        ..Totals::default()
    };
    let aliases = if idx == 0 { vec!["gpt-4o-mini".to_owned()] } else { Vec::new() };
    let (ready_workers, workers) = [(3, 5), (2, 2), (1, 1)][idx];
    ModelView { name: name.to_owned(), aliases, ready_workers, workers, totals, ..ModelView::default() }
}

/// Between 0 and 1: waves of several lengths, and some noise.
fn load(idx: usize, at: f64) -> f64 {
    let wave = |period: f64, phase: f64| (at / period * TAU + phase + idx as f64).sin();
    let noise = ((at * 12.9898 + idx as f64 * 78.233).sin() * 43758.5453).fract();
    (0.5 + 0.27 * wave(1900.0, 0.3) + 0.12 * wave(420.0, 1.0) + 0.06 * wave(37.0, 2.0) + 0.05 * noise)
        .clamp(0.0, 1.0)
}

fn go_on(idx: usize, model: &mut ModelView, at: f64, passed: f64) {
    let load = load(idx, at);
    let size = [1.0, 0.4, 0.05][idx];
    model.running = (48.0 * load * size) as usize;
    model.waiting = (((load - 0.62) * 40.0 * size).max(0.0)) as usize;
    model.queued = (((load - 0.75) * 60.0 * size).max(0.0)) as usize;
    model.kv_usage = 0.08 + 0.85 * load;
    let totals = &mut model.totals;
    let count = |rate: f64| (rate * passed * size) as u64;
    totals.prompt_tokens += count(5200.0 * load);
    totals.generation_tokens += count(2100.0 * load);
    totals.prefix_queries += count(5200.0 * load);
    totals.prefix_hits += count(5200.0 * load * (0.45 + 0.25 * (at / 1300.0).sin()));
    totals.requests_ok += count(14.0 * load);
    totals.requests_failed += u64::from((at as u64).is_multiple_of(97));
    for sample in 0..12 {
        let rank = (f64::from(sample) + 0.5) / 12.0;
        let skew = rank.powi(4) * 6.0;
        totals.first_token.record((0.06 + 0.22 * load) * (0.5 + skew));
        totals.between_tokens.record((0.011 + 0.02 * load) * (0.7 + skew / 3.0));
    }
}

fn workers(now: SystemTime, models: &[ModelView]) -> Vec<WorkerView> {
    let phases = |scale: f64| {
        let parts =
            [("container", 1.9), ("weights", 14.2), ("pack", 0.4), ("kernels", 2.6), ("warm-up", 1.1)];
        parts.map(|(name, time)| (name.to_owned(), Duration::from_secs_f64(time * scale))).to_vec()
    };
    let states = [
        (0, WorkerState::Ready, None, Circuit::Closed),
        (0, WorkerState::Ready, None, Circuit::Closed),
        (0, WorkerState::Draining, Some("its pod is being replaced"), Circuit::Closed),
        (0, WorkerState::Loading, None, Circuit::Closed),
        (0, WorkerState::Ready, Some("answered 3 of 5 requests with 500"), Circuit::HalfOpen),
        (1, WorkerState::Ready, None, Circuit::Closed),
        (
            1,
            WorkerState::Stalled,
            Some("no step for 21 s; the group of ranks waits for rank 3"),
            Circuit::Open,
        ),
        (2, WorkerState::Unreachable, Some("connection refused"), Circuit::Open),
        (2, WorkerState::Failed, Some("rank 1 ended: out of memory"), Circuit::Open),
    ];
    let view = |(idx, (model, state, why, circuit)): (usize, (usize, WorkerState, Option<&str>, Circuit))| {
        let is_busy = matches!(state, WorkerState::Ready | WorkerState::Draining);
        let share = if is_busy { models[model].running / 3 + idx % 2 } else { 0 };
        let loaded = (seconds(now) / 60.0).fract();
        WorkerView {
            id: format!("{}-{idx}", MODELS[model]),
            address: format!("http://10.42.0.{}:8000", 17 + idx),
            model: MODELS[model].to_owned(),
            state,
            why: why.map(str::to_owned),
            ranks: if model == 0 { 4 } else { 1 },
            running: share,
            waiting: if is_busy { models[model].waiting / 3 } else { 0 },
            kv_usage: if is_busy { models[model].kv_usage } else { 0.0 },
            in_flight: share,
            circuit,
            load_progress: (state == WorkerState::Loading).then_some(loaded),
            phases: if state == WorkerState::Loading { Vec::new() } else { phases(1.0 + idx as f64 * 0.3) },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: now - Duration::from_secs(90 + 700 * idx as u64),
        }
    };
    states.into_iter().enumerate().map(view).collect()
}

fn requests(now: SystemTime) -> Vec<RequestView> {
    let at = seconds(now);
    let num_requests = (38.0 * load(0, at)) as usize;
    let request = |idx: usize| {
        let model = idx % 2;
        let lives = 20.0 + idx as f64;
        let number = (at / lives).floor();
        let age = at - number * lives;
        let stage = if age < 0.8 {
            Stage::Queued
        } else if age < 2.0 {
            Stage::Prefill
        } else {
            Stage::Decode
        };
        RequestView {
            id: format!(
                "chatcmpl-{:08x}",
                (number as u64).wrapping_mul(2_654_435_761) % 0xffff_ffff + idx as u64
            ),
            model: MODELS[model].to_owned(),
            consumer: ["search", "support-bot", "batch \u{2013} nightly", "anonymous"][idx % 4].to_owned(),
            worker: (stage != Stage::Queued).then(|| format!("{}-{}", MODELS[model], idx % 3)),
            age: Duration::from_secs_f64(age),
            stage,
            tokens: if stage == Stage::Decode { ((age - 2.0) * 41.0) as u64 } else { 0 },
        }
    };
    (0..num_requests).map(request).collect()
}

fn errors(now: SystemTime) -> Vec<ErrorView> {
    let last = seconds(now) as u64 / 97;
    let kinds = [
        (429, "the queue of this model is full; try again in 2 s"),
        (503, "no worker of 'embeddings' is ready"),
        (400, "max_tokens is 65536, and the prompt of 4096 tokens leaves room for 28672"),
        (504, "the request took longer than 600 s and was ended"),
        (
            404,
            "the model 'gpt-5<script>alert(1)</script>' does not exist; this server has 'qwen3-30b-a3b', 'llama-3.1-8b-instruct'",
        ),
    ];
    let error = |number: u64| {
        let (status, message) = kinds[(number % 5) as usize];
        ErrorView {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(number * 97),
            model: (status != 404).then(|| MODELS[(number % 3) as usize].to_owned()),
            worker: (status == 504).then(|| format!("{}-1", MODELS[0])),
            request_id: format!("req-{:08x}", number.wrapping_mul(2_654_435_761) % 0xffff_ffff),
            status,
            message: message.to_owned(),
        }
    };
    (last - 30..=last).map(error).collect()
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

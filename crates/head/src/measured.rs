//! What benches time of the inside: the choice of a worker, with as many workers and as much known as wanted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use vlinders_api::{ModelCondition, ModelState, WorkerState};
use vlinders_edge::{Bodies, BodyLimits};

use crate::config::{OfferedModel, Stickiness};
use crate::discovery::{Pool, Stage, Target};
use crate::metrics::HeadMetrics;
use crate::model::Model;
use crate::prefix_chain::BLOCK_BYTES;
use crate::request::RoutedRequest;
use crate::worker::Worker;

/// A model with ready workers, whose caches are known to hold the beginnings of conversations.
#[derive(Debug)]
pub struct Routed {
    model: Model,
    /// Conversations that are known, and as many that are not.
    requests: Vec<RoutedRequest>,
    next: usize,
}

/// Blocks of each conversation: 25 KiB, some 6,400 tokens, of which the first quarter is the same for all.
pub const CONVERSATION: usize = 100;

// === impl Routed ===

impl Routed {
    /// With this many workers, which hold this many blocks together.
    ///
    /// # Panics
    /// Never: addresses and requests are valid.
    pub async fn new(workers: usize, blocks: usize) -> Self {
        let offer = OfferedModel {
            name: "m".into(),
            aliases: Vec::new(),
            max_model_len: None,
            stickiness: Stickiness::Prefix,
        };
        let model = Model::new(offer, &HeadMetrics::new(), 2 * blocks);
        let pool = Arc::new(Pool { name: "p".to_owned(), weight: 1 });
        let state =
            ModelState { condition: ModelCondition::Ready, kv_tokens: 1 << 30, ..ModelState::default() };
        let said = WorkerState { open: true, ..WorkerState::default() };
        for number in 0..workers {
            let address = format!("10.{}.{}.1:8000", number / 256, number % 256);
            let authority = address.parse().expect("an address");
            let target = Target { address, name: None, pool: Arc::clone(&pool), stage: Stage::Ready };
            let replica = model.join(&Arc::new(Worker::new(authority, target))).expect("few");
            let running = ModelState { running: number % 7, ..state.clone() };
            replica.report(&said, &running, Instant::now(), Duration::from_secs(60));
        }
        // The first quarter of each is shared, so a conversation adds three quarters.
        let known = blocks / (CONVERSATION * 3 / 4);
        let replicas = model.replicas();
        let mut requests = Vec::new();
        for number in 0..known {
            let request = conversation(number).await;
            model.sent(&replicas[number % workers], &request);
            if number % (known / 500).max(1) == 0 {
                requests.push(request);
                requests.push(conversation(known + number).await);
            }
        }
        Self { model, requests, next: 0 }
    }

    /// Blocks that are known.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.model.num_prefix_blocks()
    }

    /// Choose a worker for the next request; whether there was one.
    pub fn choose(&mut self) -> bool {
        self.next = (self.next + 1) % self.requests.len();
        self.model.choose(&self.requests[self.next], &[]).is_some()
    }

    /// Note that the next request was sent.
    pub fn record(&mut self) {
        self.next = (self.next + 1) % self.requests.len();
        let request = &self.requests[self.next];
        if let Some(replica) = self.model.choose(request, &[]) {
            self.model.sent(&replica, request);
        }
    }
}

async fn conversation(number: usize) -> RoutedRequest {
    let shared = "s".repeat(CONVERSATION * BLOCK_BYTES / 4);
    let own = format!("{number:>8}").repeat(CONVERSATION * BLOCK_BYTES * 3 / 4 / 8);
    let body = format!(
        "{{\"messages\":[{{\"role\":\"system\",\"content\":\"{shared}\"}},{{\"role\":\"user\",\"content\":\"{own}\"}}]}}"
    );
    let limits =
        BodyLimits { max_bytes: 1 << 20, max_total_bytes: 1 << 30, timeout: Duration::from_secs(60) };
    let bodies = Bodies::new(limits, Duration::from_secs(1));
    let sent = axum::extract::Request::new(axum::body::Body::from(body));
    let (body, lease) = bodies.read(sent).await.expect("a body");
    RoutedRequest::read("/v1/chat/completions", HeaderMap::new(), body, lease).expect("a request")
}

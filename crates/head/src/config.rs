//! What the operator decides about a head.

use std::sync::Arc;
use std::time::Duration;

use vlinders_edge::{BodyLimits, ConnectionLimits, CorsOrigins, Secret};

/// Limits and habits of a head.
#[derive(Debug, Clone)]
pub struct HeadConfig {
    /// Models that are offered whether or not a worker is there; `None` offers what workers report.
    pub models: Option<Vec<OfferedModel>>,
    /// The key that workers ask for.
    pub worker_key: Option<Secret>,
    /// How workers are watched.
    pub health: HealthConfig,
    /// How requests wait for a worker.
    pub queue: QueueConfig,
    /// How much clients may send, and how slowly.
    pub body: BodyLimits,
    /// What a connection may do.
    pub connections: ConnectionLimits,
    /// Requests being served or waiting; one more gets 429.
    pub max_in_flight: usize,
    /// What `Retry-After` says in 429 and 503.
    pub retry_after: Duration,
    /// From the arrival of a request to the last byte of its answer.
    pub request_timeout: Duration,
    /// After the signal to stop, requests are still taken for this long: load balancers need time to notice.
    pub shutdown_delay: Duration,
    /// How long running requests may go on after that.
    pub shutdown_grace: Duration,
    /// Which web pages may call.
    pub cors: CorsOrigins,
    /// Blocks of prompts that are remembered, all workers of a model together.
    pub max_prefix_blocks: usize,
}

/// A model that clients may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedModel {
    /// The name that answers carry.
    pub name: Arc<str>,
    /// Further names.
    pub aliases: Vec<String>,
    /// Prompt and answer together, in tokens, if the operator says.
    pub max_model_len: Option<usize>,
    /// How its requests are spread.
    pub stickiness: Stickiness,
}

/// What keeps requests at one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stickiness {
    /// Known beginnings of prompts, against load.
    #[default]
    Prefix,
    /// The `user` that a request names, where it names one.
    User,
}

/// How workers are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthConfig {
    /// Between two questions to a worker; at most a second, or routing is blind.
    pub interval: Duration,
    /// For an answer to such a question.
    pub timeout: Duration,
    /// For a connection to a worker.
    pub connect_timeout: Duration,
    /// A worker that has work and completes no step for this long gets no requests.
    pub stall_timeout: Duration,
    /// What a worker has is given up when it has said nothing for this long: requests without a byte are sent to another
    /// one, streams are ended with an error.
    pub lost_timeout: Duration,
}

/// How requests wait for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Requests that may wait for one model; one more gets 503.
    pub max_waiting: usize,
    /// How long.
    pub timeout: Duration,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self {
            models: None,
            worker_key: None,
            health: HealthConfig {
                interval: Duration::from_millis(500),
                timeout: Duration::from_secs(2),
                connect_timeout: Duration::from_secs(2),
                stall_timeout: Duration::from_secs(30),
                lost_timeout: Duration::from_secs(15),
            },
            queue: QueueConfig { max_waiting: 1024, timeout: Duration::from_secs(60) },
            body: BodyLimits {
                max_bytes: 10 << 20,
                max_total_bytes: 1 << 30,
                timeout: Duration::from_secs(60),
            },
            connections: ConnectionLimits {
                max_connections: 16_384,
                header_timeout: Duration::from_secs(30),
                write_timeout: Duration::from_secs(60),
            },
            max_in_flight: 8192,
            retry_after: Duration::from_secs(1),
            request_timeout: Duration::from_secs(600),
            shutdown_delay: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(30),
            cors: CorsOrigins::None,
            max_prefix_blocks: 1 << 20,
        }
    }
}

//! What the operator decides about the HTTP side, apart from the models.

use std::time::Duration;

use vlinders_edge::{ApiKeys, BodyLimits, ConnectionLimits, CorsOrigins};

/// Limits and habits of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// How much clients may send, and how slowly.
    pub body: BodyLimits,
    /// What a connection may do.
    pub connections: ConnectionLimits,
    /// Requests being served or waiting, all models together; one more gets 429.
    pub max_in_flight: usize,
    /// What `Retry-After` says in 429 and 503.
    pub retry_after: Duration,
    /// From the arrival of a request to the last byte of its answer; then it gets 504 or, in a stream, an error event.
    pub request_timeout: Duration,
    /// The most choices for one prompt.
    pub max_n: usize,
    /// The most prompts of one completion request.
    pub max_prompts: usize,
    /// The most stop strings.
    pub max_stop: usize,
    /// The most alternatives with log-probabilities for each token.
    pub max_logprobs: usize,
    /// A comment goes into a stream that is silent for this long.
    pub keep_alive: Duration,
    /// A model that has work and completes no step for this long is not ready, and not healthy.
    pub stall_timeout: Duration,
    /// How long running requests may go on after the signal to stop.
    pub shutdown_grace: Duration,
    /// Which web pages may call.
    pub cors: CorsOrigins,
    /// Keys of `/v1/…`, `/tokenize` and `/detokenize`; `None` lets everybody in. Probes, `/metrics`, `/version` and
    /// `/openapi.json` never ask for one: their readers are part of the platform, and they say nothing of requests.
    pub api_keys: Option<ApiKeys>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            body: BodyLimits {
                max_bytes: 10 << 20,
                max_total_bytes: 256 << 20,
                timeout: Duration::from_secs(60),
            },
            connections: ConnectionLimits {
                max_connections: 16_384,
                header_timeout: Duration::from_secs(30),
                write_timeout: Duration::from_secs(60),
            },
            max_in_flight: 2048,
            retry_after: Duration::from_secs(1),
            request_timeout: Duration::from_secs(600),
            max_n: 128,
            max_prompts: 128,
            max_stop: 4,
            max_logprobs: 20,
            keep_alive: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(30),
            cors: CorsOrigins::None,
            api_keys: None,
        }
    }
}

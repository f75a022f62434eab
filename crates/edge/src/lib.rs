//! What every HTTP server of ours shares: admission, errors, keys, limits, metrics, streams, shutdown.

mod access;
mod admission;
mod auth;
mod body;
mod browser;
mod budget;
mod connection;
mod cors;
mod cpu_time;
mod error;
mod metrics;
mod running;
mod secret;
mod shutdown;
mod sse;
mod tally;
mod trace;
mod usage_report;
mod write_timeout;

pub use self::{
    access::{AccessLog, RequestId, access_log},
    admission::{Admission, Permit, Rejected},
    auth::{ApiKeys, InvalidApiKeys, bearer, key_lines, unknown_key},
    body::{Bodies, BodyLimits},
    browser::browser_credentials,
    budget::BodyLease,
    connection::{ConnectionLimits, Connections},
    cors::{CorsOrigins, InvalidOrigin, cors},
    cpu_time::CpuTime,
    error::{ApiError, ErrorKind, catch_panics, method_not_allowed, not_found},
    metrics::{Labels, METRICS_CONTENT_TYPE, Metrics, buckets},
    running::{FailedRequest, Listed, RequestStage, Running, RunningRequests},
    secret::Secret,
    shutdown::{Shutdown, ShutdownCause},
    sse::{Progress, SseBody, SseOptions, SseSource, SseWriter, sse_response},
    tally::Tally,
    trace::{Stage, Trace},
    usage_report::{NoUsageReport, UsageReport},
};

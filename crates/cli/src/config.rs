//! The configuration as resolved: command line over environment over file over default.
//!
//! `raw` is what a file says, with the place of every value; `models` and `server` decide what holds. Behind this
//! module nothing is optional that has a default, and nothing needs to be checked again.

mod access;
mod deploy;
mod dtype;
mod group;
mod head;
mod keys;
mod layers;
mod models;
mod problem;
mod raw;
mod server;
mod syntax;
mod units;

pub(crate) use self::{
    access::{LedgerSettings, LimitSettings, RedisSettings, database_url},
    deploy::{FetchedModel, resolve_sources, resolve_workers, target_at},
    dtype::Dtype,
    group::resolve_group,
    head::{PoolSettings, WorkerSource},
    keys::{first_key, secret, server_keys},
    layers::{Resolved, ResolvedHead, model_at, resolve, resolve_head, resolve_ledger},
    models::{ModelConfig, ModelPath},
    problem::{ConfigError, Problem},
    server::{LogSettings, ServerConfig},
    units::{format_bytes, format_count, format_duration, parse_duration},
};

#[cfg(test)]
mod tests;

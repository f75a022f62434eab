//! What models.yaml and server.yaml say, with the place of every value, before any decision.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

/// A value and where it stands.
pub(super) type Field<T> = Option<Spanned<T>>;

/// All of models.yaml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModels {
    pub(super) models: Spanned<Vec<RawModel>>,
}

/// One model of models.yaml.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) name: Spanned<String>,
    pub(super) path: Spanned<String>,
    pub(super) tensor_parallel_size: Field<u64>,
    pub(super) max_model_len: Field<u64>,
    pub(super) enabled: Field<bool>,
    pub(super) dtype: Field<String>,
    pub(super) quantization: Field<String>,
    pub(super) activation_dtype: Field<String>,
    pub(super) kv_cache_dtype: Field<String>,
    pub(super) aliases: Option<Vec<Spanned<String>>>,
    pub(super) chat_template: Field<String>,
    pub(super) tool_parser: Field<String>,
    pub(super) reasoning_parser: Field<String>,
    pub(super) max_num_seqs: Field<u64>,
    pub(super) max_batched_tokens: Field<u64>,
    pub(super) max_waiting: Field<u64>,
    pub(super) num_threads: Field<u64>,
    pub(super) prefix_caching: Field<bool>,
    pub(super) device: Field<String>,
    pub(super) memory_fraction: Field<f64>,
    pub(super) sticky: Field<String>,
    /// Of no interest to whoever serves it.
    pub(super) deploy: Option<Spanned<RawDeploy>>,
}

/// How a model is fetched and deployed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDeploy {
    pub(super) source: Field<String>,
    pub(super) replicas: Option<Spanned<RawReplicas>>,
    pub(super) nodes: Field<u64>,
    pub(super) cpu: Field<String>,
    pub(super) memory: Field<String>,
    pub(super) shm: Field<String>,
    pub(super) node_selector: BTreeMap<String, Spanned<String>>,
}

/// `2`, or `{ min: 1, max: 10 }`.
#[derive(Debug, Clone, Copy)]
pub(super) enum RawReplicas {
    Fixed(u64),
    Range(RawRange),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRange {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl<'de> Deserialize<'de> for RawReplicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;

        impl<'de> Visitor<'de> for Form {
            type Value = RawReplicas;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or { min: 1, max: 10 }")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<RawReplicas, E> {
                Ok(RawReplicas::Fixed(count))
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<RawReplicas, E> {
                let count =
                    u64::try_from(count).map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))?;
                Ok(RawReplicas::Fixed(count))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawReplicas, A::Error> {
                RawRange::deserialize(MapAccessDeserializer::new(map)).map(RawReplicas::Range)
            }
        }

        deserializer.deserialize_any(Form)
    }
}

/// All of server.yaml.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServerFile {
    pub(super) server: RawServer,
    pub(super) logging: RawLogging,
    pub(super) limits: RawLimits,
    pub(super) cors: RawCors,
    pub(super) auth: RawAuth,
    pub(super) shutdown: RawShutdown,
    pub(super) head: RawHead,
    pub(super) tracing: RawTracing,
    pub(super) rate_limits: RawRateLimits,
    pub(super) ledger: RawLedger,
    pub(super) dashboard: RawDashboard,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDashboard {
    pub(super) port: Field<u64>,
    pub(super) enabled: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTracing {
    pub(super) otlp_endpoint: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    pub(super) host: Field<String>,
    pub(super) port: Field<u64>,
    pub(super) workers: Field<u64>,
    pub(super) compute_threads: Field<u64>,
    pub(super) cpu_pinning: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLogging {
    pub(super) level: Field<String>,
    pub(super) format: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) max_body_bytes: Field<String>,
    pub(super) max_total_body_bytes: Field<String>,
    pub(super) max_connections: Field<u64>,
    pub(super) request_timeout: Field<String>,
    pub(super) max_in_flight: Field<u64>,
    pub(super) max_n: Field<u64>,
    pub(super) max_stop: Field<u64>,
    pub(super) max_logprobs: Field<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCors {
    pub(super) allowed_origins: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuth {
    pub(super) api_key_file: Field<String>,
    pub(super) jwt: Option<Spanned<RawJwt>>,
    pub(super) gateway: Option<Spanned<RawGateway>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJwt {
    pub(super) public_key_file: Field<String>,
    pub(super) audiences: Option<Vec<Spanned<String>>>,
    pub(super) issuers: Option<Vec<Spanned<String>>>,
    pub(super) leeway: Field<String>,
    pub(super) consumer_claim: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGateway {
    pub(super) secret_file: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRateLimits {
    pub(super) requests_per_minute: Field<u64>,
    pub(super) tokens_per_minute: Field<u64>,
    pub(super) consumers: BTreeMap<String, RawLimit>,
    pub(super) redis: Option<Spanned<RawRedis>>,
}

/// Limits of one consumer.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimit {
    pub(super) requests_per_minute: Field<u64>,
    pub(super) tokens_per_minute: Field<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRedis {
    pub(super) url_file: Field<String>,
    pub(super) cluster: Field<bool>,
    pub(super) authority_file: Field<String>,
    pub(super) timeout: Field<String>,
    pub(super) when_gone: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLedger {
    pub(super) database_url_file: Field<String>,
    pub(super) spool: Field<String>,
    pub(super) max_spool_bytes: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawShutdown {
    pub(super) delay: Field<String>,
    pub(super) grace: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHead {
    pub(super) workers: Option<Spanned<Vec<RawPool>>>,
    pub(super) worker_key_file: Field<String>,
    pub(super) scaler_port: Field<u64>,
    pub(super) peers: Field<String>,
    pub(super) queue: RawQueue,
    pub(super) health: RawHealth,
}

/// Workers that are found in one way.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPool {
    pub(super) name: Field<String>,
    pub(super) weight: Field<u64>,
    pub(super) addresses: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) dns: Field<String>,
    pub(super) kubernetes: Option<Spanned<RawKubernetes>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKubernetes {
    pub(super) namespace: Field<String>,
    pub(super) services: Option<Vec<Spanned<String>>>,
    pub(super) port: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawQueue {
    pub(super) max_waiting: Field<u64>,
    pub(super) timeout: Field<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHealth {
    pub(super) interval: Field<String>,
    pub(super) timeout: Field<String>,
    pub(super) connect_timeout: Field<String>,
    pub(super) stall_timeout: Field<String>,
    pub(super) lost_timeout: Field<String>,
}

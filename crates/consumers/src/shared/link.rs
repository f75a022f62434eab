//! One connection to Redis, to a server or to a cluster, and the one call made on it.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Script, TlsCertificates};

use crate::bucket::{Cost, Debts, Decision};
use crate::error::ConsumersError;
use crate::limits::Limits;
use crate::shared::RedisOptions;

/// Whom to connect to.
pub(super) enum Servers {
    One(Client, AsyncConnectionConfig),
    Cluster(ClusterClient),
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Link {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// One run of the script.
pub(crate) struct Call {
    pub(crate) key: String,
    /// Milliseconds; `None` is the time of Redis.
    pub(crate) now: Option<u64>,
    pub(crate) limits: Limits,
    /// Ask whether this may be taken; `None` settles.
    pub(crate) cost: Option<Cost>,
    /// Tokens to settle.
    pub(crate) more: i64,
}

/// Why a call failed, in words without addresses and passwords.
pub(super) enum Failure {
    Timeout,
    Redis(RedisError),
}

const CODE: &str = include_str!("bucket.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(CODE));
const CONNECT: Duration = Duration::from_secs(1);

// === impl Servers ===

impl Servers {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, ConsumersError> {
        let first = options.urls.first().ok_or(ConsumersError::RedisUrl)?;
        if first.is_tls() {
            // Fails where the process has chosen its provider already, which is as good.
            rustls::crypto::ring::default_provider().install_default().ok();
        }
        let root_cert = options.authority.as_ref().map(|pem| pem.as_bytes().to_vec());
        let certificates = root_cert.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        if options.cluster {
            let mut builder = ClusterClientBuilder::new(options.urls.iter().map(|url| url.as_str()))
                .connection_timeout(CONNECT)
                .response_timeout(options.timeout)
                // Enough to follow a slot that moves; what takes longer than a request waits is a failure.
                .retries(3)
                .min_retry_wait(5)
                .max_retry_wait(20);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(builder.build().map_err(unusable)?));
        }
        let client = match certificates {
            Some(certificates) if first.is_tls() => Client::build_with_tls(first.as_str(), certificates),
            _ => Client::open(first.as_str()),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(options.timeout));
        Ok(Self::One(client.map_err(unusable)?, config))
    }

    pub(super) async fn connect(&self) -> Result<Link, Failure> {
        Ok(match self {
            Self::One(client, config) => {
                Link::One(client.get_multiplexed_async_connection_with_config(config).await?)
            }
            Self::Cluster(client) => Link::Cluster(client.get_async_connection().await?),
        })
    }
}

/// Addresses have been read before, so it is the certificates.
fn unusable(_: RedisError) -> ConsumersError {
    ConsumersError::RedisCertificate
}

// === impl Link ===

impl Link {
    /// Run the script, by its hash where the server knows it.
    pub(super) async fn call(&self, call: &Call) -> Result<Decision, Failure> {
        let answer = match self.query(&call.command("EVALSHA", SCRIPT.get_hash())).await {
            Err(error) if error.code() == Some("NOSCRIPT") => self.query(&call.command("EVAL", CODE)).await,
            answer => answer,
        };
        let (admitted, requests, tokens) = answer?;
        Ok(Decision { admitted, debts: Debts { requests, tokens } })
    }

    async fn query(&self, command: &Cmd) -> Result<(bool, u64, u64), RedisError> {
        match self.clone() {
            Self::One(mut link) => command.query_async(&mut link).await,
            Self::Cluster(mut link) => command.query_async(&mut link).await,
        }
    }
}

// === impl Call ===

impl Call {
    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(1).arg(&self.key);
        match self.now {
            Some(now) => command.arg(now),
            None => command.arg(-1),
        };
        command.arg(self.limits.requests_per_minute).arg(self.limits.tokens_per_minute);
        match self.cost {
            Some(cost) => command.arg(cost.requests).arg(cost.tokens).arg("admit"),
            None => command.arg(0).arg(self.more).arg("settle"),
        };
        command
    }
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Redis(error) => match error.code() {
                Some(code) => write!(f, "{} ({code})", error.category()),
                None => f.write_str(error.category()),
            },
        }
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

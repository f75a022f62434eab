//! Where Redis is, and what to do without it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use redis::IntoConnectionInfo as _;

use crate::error::ConsumersError;

/// An address like `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` for TLS. It holds a password, so it is never
/// shown.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// One address, or some of the nodes of a cluster; all with the same password.
    pub urls: Vec<RedisUrl>,
    /// The addresses are nodes of a cluster. Otherwise only the first is used.
    pub cluster: bool,
    /// The certificate authority of `rediss://` in PEM, instead of those of the system.
    pub authority: Option<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// How long a request waits for Redis, once; then Redis counts as gone until it answers.
    pub timeout: Duration,
    /// What happens to requests while Redis is gone.
    pub when_gone: WhenGone,
}

/// What happens to requests while Redis is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenGone {
    /// Each process limits by itself, with the same limits: `n` of them admit up to `n` times as much.
    Open,
    /// Nobody with limits is admitted: 503.
    Closed,
}

// === impl RedisUrl ===

impl RedisUrl {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn is_tls(&self) -> bool {
        self.0.starts_with("rediss://")
    }
}

impl FromStr for RedisUrl {
    type Err = ConsumersError;

    fn from_str(text: &str) -> Result<Self, ConsumersError> {
        let text = text.trim();
        let known = text.starts_with("redis://") || text.starts_with("rediss://");
        // `#insecure` would turn the check of certificates off.
        let plain = !text.contains('#') && text.into_connection_info().is_ok();
        if known && plain { Ok(Self(text.to_owned())) } else { Err(ConsumersError::RedisUrl) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl")
    }
}

// === impl RedisOptions ===

impl RedisOptions {
    /// One server or a cluster, asked for at most 100 ms; open without it.
    #[must_use]
    pub fn new(urls: Vec<RedisUrl>, cluster: bool) -> Self {
        Self {
            urls,
            cluster,
            authority: None,
            prefix: "vlinders:limits:".to_owned(),
            timeout: Duration::from_millis(100),
            when_gone: WhenGone::Open,
        }
    }
}

//! From settings to what a head works with: who may ask, how much, and where that is entered.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use vlinders_consumers::{
    Authenticator, JwtVerifier, NamedKeys, RateLimiter, RateLimits, RedisOptions, TrustedGateway,
};
use vlinders_head::HeadMetrics;
use vlinders_ledger::{Ledger, LedgerConfig};

use crate::config::{self, ConfigError, LedgerSettings, RedisSettings, ServerConfig};

/// Who is let in: with a key, a token, or from a gateway.
pub(super) fn authenticator(settings: &ServerConfig) -> anyhow::Result<Authenticator> {
    let mut who = Authenticator::open();
    let keys = config::server_keys(settings.api_key_file.as_deref()).map_err(ConfigError::from)?;
    if !keys.is_empty() {
        who = who.with_keys(NamedKeys::parse(&keys.join("\n"))?);
    }
    if let Some(jwt) = &settings.access.jwt {
        let pem = read(&jwt.public_key_file)?;
        let tokens = JwtVerifier::new(&pem, &jwt.rules);
        who = who.with_tokens(tokens.with_context(|| jwt.public_key_file.display().to_string())?);
    }
    if let Some(gateway) = &settings.access.gateway {
        const VARIABLE: &str = "VLINDERS_INTERNAL_SECRET";
        let secret = config::secret(gateway.secret_file.as_deref(), VARIABLE).map_err(ConfigError::from)?;
        let Some(secret) = secret else {
            bail!(
                "`auth.gateway` needs the secret that the gateway sends: write `secret_file`, or set {VARIABLE}"
            );
        };
        who = who.with_gateway(TrustedGateway::parse(&secret)?);
    }
    if who.is_open() {
        tracing::warn!(
            "neither keys nor tokens nor a gateway are configured: whoever reaches this address is served"
        );
    }
    Ok(who)
}

/// How much each may; `None` if nobody is limited.
pub(super) async fn limiter(
    settings: &config::LimitSettings,
    metrics: &HeadMetrics,
) -> anyhow::Result<Option<RateLimiter>> {
    if !settings.is_limited() {
        return Ok(None);
    }
    let limits = RateLimits::new(settings.default, settings.consumers.clone())?;
    let metrics = metrics.registry();
    Ok(Some(match &settings.redis {
        None => RateLimiter::in_memory(limits, metrics),
        Some(redis) => RateLimiter::with_redis(limits, redis_options(redis)?, metrics).await?,
    }))
}

fn redis_options(settings: &RedisSettings) -> anyhow::Result<RedisOptions> {
    const VARIABLE: &str = "VLINDERS_REDIS_URL";
    let urls = config::secret(settings.url_file.as_deref(), VARIABLE).map_err(ConfigError::from)?;
    let Some(urls) = urls else {
        bail!(
            "`rate_limits.redis` needs an address: write `url_file`, or set {VARIABLE}, such as redis://redis:6379"
        );
    };
    let urls = urls.split([',', '\n']).map(str::trim).filter(|url| !url.is_empty());
    let urls = urls.map(str::parse).collect::<Result<Vec<_>, _>>()?;
    let authority = settings.authority_file.as_deref().map(read).transpose()?;
    let options = RedisOptions::new(urls, settings.cluster);
    Ok(RedisOptions { authority, timeout: settings.timeout, when_gone: settings.when_gone, ..options })
}

/// Where requests are entered; `None` without a database.
pub(super) async fn ledger(
    settings: &LedgerSettings,
    metrics: &HeadMetrics,
) -> anyhow::Result<Option<Ledger>> {
    let Some(url) = config::database_url(settings)? else { return Ok(None) };
    let Some(spool) = settings.spool.clone() else {
        bail!(
            "the ledger needs a folder for rows that the database does not have yet: write `ledger.spool` into server.yaml, \
             a folder of this process alone on a disk that outlives it"
        );
    };
    let mut config = LedgerConfig::new(url, spool);
    config.max_spool_bytes = settings.max_spool_bytes.unwrap_or(config.max_spool_bytes);
    tracing::info!(database = %config.database_url, spool = %config.spool.display(), "requests are entered");
    Ok(Some(Ledger::start(config, metrics.registry()).await?))
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

//! Who may ask a head and how much, and where that is entered: the sections `auth`, `rate_limits` and `ledger` of server.yaml.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;
use vlinders_consumers::{JwtRules, Limits, WhenGone};
use vlinders_ledger::DatabaseUrl;

use super::keys::secret;
use super::problem::ConfigError;
use super::raw::{Field, RawJwt, RawLedger, RawLimit, RawRateLimits, RawRedis, RawServerFile};
use super::server::Resolver;

/// Who may ask a head, apart from those with keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct AccessSettings {
    pub(crate) jwt: Option<JwtSettings>,
    pub(crate) gateway: Option<GatewaySettings>,
    pub(crate) limits: LimitSettings,
    pub(crate) ledger: LedgerSettings,
}

/// Signed tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JwtSettings {
    pub(crate) public_key_file: PathBuf,
    pub(crate) rules: JwtRules,
}

/// A gateway that has found out who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewaySettings {
    /// Without it, `VLINDERS_INTERNAL_SECRET` counts.
    pub(crate) secret_file: Option<PathBuf>,
}

/// How much each consumer may.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LimitSettings {
    pub(crate) default: Limits,
    pub(crate) consumers: HashMap<String, Limits>,
    pub(crate) redis: Option<RedisSettings>,
}

/// Where limits are counted for all heads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RedisSettings {
    /// Without it, `VLINDERS_REDIS_URL` counts.
    pub(crate) url_file: Option<PathBuf>,
    pub(crate) cluster: bool,
    pub(crate) authority_file: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) when_gone: WhenGone,
}

/// Where requests are entered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LedgerSettings {
    /// Without it, `VLINDERS_DATABASE_URL` counts; without both there is no ledger.
    pub(crate) database_url_file: Option<PathBuf>,
    pub(crate) spool: Option<PathBuf>,
    pub(crate) max_spool_bytes: Option<u64>,
}

const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

// === impl LimitSettings ===

impl LimitSettings {
    /// Anybody is limited.
    pub(crate) fn is_limited(&self) -> bool {
        !self.default.is_unlimited() || self.consumers.values().any(|limits| !limits.is_unlimited())
    }
}

/// The database of the ledger, if one is named.
///
/// # Errors
/// The file can not be read, or what it holds is no address.
pub(crate) fn database_url(settings: &LedgerSettings) -> anyhow::Result<Option<DatabaseUrl>> {
    let url =
        secret(settings.database_url_file.as_deref(), "VLINDERS_DATABASE_URL").map_err(ConfigError::from)?;
    Ok(url.map(|url| url.parse()).transpose()?)
}

/// Decide on the sections; relative paths count from `base`.
pub(super) fn resolve(raw: &RawServerFile, resolver: &mut Resolver<'_>, base: &Path) -> AccessSettings {
    let path = |field: &Field<String>| field.as_ref().map(|path| base.join(&path.value));
    AccessSettings {
        jwt: raw.auth.jwt.as_ref().and_then(|jwt| resolve_jwt(jwt, resolver, base)),
        gateway: raw
            .auth
            .gateway
            .as_ref()
            .map(|gateway| GatewaySettings { secret_file: path(&gateway.value.secret_file) }),
        limits: resolve_limits(&raw.rate_limits, resolver, base),
        ledger: resolve_ledger(&raw.ledger, resolver, base),
    }
}

fn resolve_jwt(raw: &Spanned<RawJwt>, resolver: &mut Resolver<'_>, base: &Path) -> Option<JwtSettings> {
    let texts = |list: &Option<Vec<Spanned<String>>>| -> Vec<String> {
        list.iter().flatten().map(|text| text.value.clone()).collect()
    };
    let default = JwtRules::new("");
    let rules = JwtRules {
        audiences: texts(&raw.value.audiences),
        issuers: texts(&raw.value.issuers),
        leeway: resolver.duration(&raw.value.leeway).unwrap_or(default.leeway),
        consumer_claim: raw
            .value
            .consumer_claim
            .as_ref()
            .map_or(default.consumer_claim, |claim| claim.value.clone()),
    };
    if rules.audiences.is_empty() {
        let remedy = "write `audiences: [NAME]`: tokens for other services must not be taken here";
        resolver.report(raw, "no audience", remedy);
    }
    let Some(file) = &raw.value.public_key_file else {
        resolver.report(raw, "no public key", "write `public_key_file: FILE`, in PEM");
        return None;
    };
    Some(JwtSettings { public_key_file: base.join(&file.value), rules })
}

fn resolve_limits(raw: &RawRateLimits, resolver: &mut Resolver<'_>, base: &Path) -> LimitSettings {
    let mut limit = |requests: &Field<u64>, tokens: &Field<u64>| {
        let mut number = |field: &Field<u64>| {
            let Some(field) = field else { return 0 };
            if field.value > vlinders_consumers::MAX_LIMIT {
                let remedy = format!("write at most {}, or 0 for no limit", vlinders_consumers::MAX_LIMIT);
                resolver.report(field, format!("found {}", field.value), remedy);
            }
            field.value
        };
        Limits { requests_per_minute: number(requests), tokens_per_minute: number(tokens) }
    };
    let default = limit(&raw.requests_per_minute, &raw.tokens_per_minute);
    let consumers =
        raw.consumers.iter().map(|(name, RawLimit { requests_per_minute, tokens_per_minute })| {
            (name.clone(), limit(requests_per_minute, tokens_per_minute))
        });
    let consumers = consumers.collect();
    let redis = raw.redis.as_ref().map(|redis| resolve_redis(&redis.value, resolver, base));
    LimitSettings { default, consumers, redis }
}

fn resolve_redis(raw: &RawRedis, resolver: &mut Resolver<'_>, base: &Path) -> RedisSettings {
    let when_gone = resolver.parsed(&raw.when_gone, |text| match text {
        "open" => Ok(WhenGone::Open),
        "closed" => Ok(WhenGone::Closed),
        _ => {
            Err("write open (each head limits by itself) or closed (nobody with limits is let in)".to_owned())
        }
    });
    RedisSettings {
        url_file: raw.url_file.as_ref().map(|path| base.join(&path.value)),
        cluster: raw.cluster.as_ref().is_some_and(|cluster| cluster.value),
        authority_file: raw.authority_file.as_ref().map(|path| base.join(&path.value)),
        timeout: resolver.duration(&raw.timeout).unwrap_or(REDIS_TIMEOUT),
        when_gone: when_gone.unwrap_or(WhenGone::Open),
    }
}

fn resolve_ledger(raw: &RawLedger, resolver: &mut Resolver<'_>, base: &Path) -> LedgerSettings {
    LedgerSettings {
        database_url_file: raw.database_url_file.as_ref().map(|path| base.join(&path.value)),
        spool: raw.spool.as_ref().map(|path| base.join(&path.value)),
        max_spool_bytes: resolver.bytes(&raw.max_spool_bytes).map(|bytes| bytes as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::read;
    use super::*;

    fn settings(text: &str) -> Result<AccessSettings, String> {
        read(Path::new("/etc/server.yaml"), text)
            .map(|config| config.access)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_that_can_be_said_is_read() {
        let text = "\
auth:
  jwt: { public_key_file: jwt.pem, audiences: [vlinders], issuers: [kong], leeway: 5s, consumer_claim: name }
  gateway: { secret_file: secret }
rate_limits:
  requests_per_minute: 60
  tokens_per_minute: 1000
  consumers: { red: { requests_per_minute: 5 }, blue: {} }
  redis: { url_file: redis, cluster: true, authority_file: ca.pem, timeout: 50ms, when_gone: closed }
ledger: { database_url_file: url, spool: /var/spool, max_spool_bytes: 1MiB }
";
        let read = settings(text).unwrap();
        let jwt = read.jwt.clone().unwrap();
        assert_eq!(jwt.public_key_file, Path::new("/etc/jwt.pem"));
        let rules = JwtRules {
            issuers: vec!["kong".into()],
            leeway: Duration::from_secs(5),
            consumer_claim: "name".into(),
            ..JwtRules::new("vlinders")
        };
        assert_eq!(jwt.rules, rules);
        assert_eq!(read.gateway.unwrap().secret_file.unwrap(), Path::new("/etc/secret"));
        let limits =
            |requests_per_minute, tokens_per_minute| Limits { requests_per_minute, tokens_per_minute };
        assert!(read.limits.is_limited());
        assert_eq!((read.limits.default, read.limits.consumers["red"]), (limits(60, 1000), limits(5, 0)));
        assert_eq!(read.limits.consumers["blue"], limits(0, 0));
        let redis = read.limits.redis.unwrap();
        assert_eq!((redis.cluster, redis.when_gone, redis.timeout.as_millis()), (true, WhenGone::Closed, 50));
        assert_eq!(
            (redis.url_file.unwrap(), redis.authority_file.unwrap()),
            ("/etc/redis".into(), "/etc/ca.pem".into())
        );
        let ledger = LedgerSettings {
            database_url_file: Some("/etc/url".into()),
            spool: Some("/var/spool".into()),
            max_spool_bytes: Some(1 << 20),
        };
        assert_eq!(read.ledger, ledger);
        assert_eq!(settings("server: { port: 1 }").unwrap(), AccessSettings::default());
        assert!(!AccessSettings::default().limits.is_limited());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, part) in [
            ("auth:\n  jwt: { public_key_file: a }\n", "no audience"),
            ("auth:\n  jwt: { audiences: [a] }\n", "no public key"),
            ("auth:\n  jwt: { algorithm: none }\n", "algorithm"),
            ("rate_limits:\n  tokens_per_minute: 99999999999\n", "server.yaml:2"),
            ("rate_limits:\n  redis: { when_gone: maybe }\n", "write open"),
            ("ledger:\n  url: here\n", "did you mean `database_url_file`?"),
        ] {
            let error = settings(text).unwrap_err();
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
}

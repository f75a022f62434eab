//! server.yaml as resolved: address, threads, logs, limits, and who may come in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_saphyr::Spanned;

use super::access::{self, AccessSettings};
use super::head::{self, HeadSettings};
use super::problem::{ConfigError, Problem};
use super::raw::{Field, RawServerFile};
use super::syntax::{Source, suggest};
use super::units::{format_bytes, parse_bytes, parse_duration};
use crate::args::{CpuPinning, LogFormat};

/// Where Ray has its dashboard, and many bookmarks point.
const DASHBOARD_PORT: u16 = 8265;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// How the process serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerConfig {
    /// Name or address to listen on.
    pub(crate) host: String,
    /// 0 takes any free one.
    pub(crate) port: u16,
    /// Threads that handle HTTP.
    pub(crate) workers: usize,
    /// Threads that compute, all models together; `None` is as many as the models ask for.
    pub(crate) compute_threads: Option<usize>,
    pub(crate) cpu_pinning: CpuPinning,
    pub(crate) log: LogSettings,
    pub(crate) limits: LimitsConfig,
    /// Web origins that browsers may call from; `*` is any, empty is none.
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) api_key_file: Option<PathBuf>,
    /// How long a head still takes requests after SIGTERM.
    pub(crate) shutdown_delay: Duration,
    /// How long running requests may go on after SIGTERM.
    pub(crate) shutdown_grace: Duration,
    /// Collector of traces; without it nothing is sent.
    pub(crate) otlp_endpoint: Option<String>,
    /// Of the dashboard of a head; `None` is without one.
    pub(crate) dashboard_port: Option<u16>,
    /// Who may ask a head and how much, and where that is entered.
    pub(crate) access: AccessSettings,
    /// For `vlinders head`.
    pub(crate) head: HeadSettings,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogSettings {
    /// A level, or filters in the form of tracing-subscriber.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

/// What clients may ask of the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LimitsConfig {
    pub(crate) max_body_bytes: usize,
    /// Bodies that are being read or not yet encoded, all together; whoever comes on top is refused with 429.
    pub(crate) max_total_body_bytes: usize,
    /// Open connections; further ones wait to be accepted.
    pub(crate) max_connections: usize,
    /// From the arrival of a request to the last byte of its answer.
    pub(crate) request_timeout: Duration,
    /// Requests being served or waiting, all models together; one more is refused with 429.
    pub(crate) max_in_flight: usize,
    /// Answers to one request.
    pub(crate) max_n: usize,
    /// Stop strings of one request.
    pub(crate) max_stop: usize,
    /// Alternatives with log-probabilities.
    pub(crate) max_logprobs: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: 8000,
            workers: 2,
            compute_threads: None,
            cpu_pinning: CpuPinning::Auto,
            log: LogSettings { filter: "info".to_owned(), format: LogFormat::Text },
            limits: LimitsConfig {
                max_body_bytes: 10 << 20,
                max_total_body_bytes: 256 << 20,
                max_connections: 16_384,
                request_timeout: Duration::from_secs(600),
                max_in_flight: 2048,
                max_n: 128,
                max_stop: 4,
                max_logprobs: 20,
            },
            allowed_origins: vec!["*".to_owned()],
            api_key_file: None,
            shutdown_delay: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(30),
            otlp_endpoint: None,
            dashboard_port: Some(DASHBOARD_PORT),
            access: AccessSettings::default(),
            head: HeadSettings::default(),
        }
    }
}

/// Decide on the text of a server.yaml. Relative paths count from the folder of the file.
pub(super) fn read(file: &Path, text: &str) -> Result<ServerConfig, ConfigError> {
    let source = Source { file, text };
    let raw: RawServerFile = source.parse()?;
    let mut resolver = Resolver { source: &source, problems: Vec::new() };
    let default = ServerConfig::default();
    let base = file.parent().unwrap_or(Path::new("."));
    let max_body_bytes = resolver.bytes(&raw.limits.max_body_bytes).unwrap_or(default.limits.max_body_bytes);
    let config = ServerConfig {
        host: resolver.host(&raw.server.host).unwrap_or(default.host),
        port: resolver.port(&raw.server.port).unwrap_or(default.port),
        workers: resolver.count(&raw.server.workers).unwrap_or(default.workers),
        compute_threads: resolver.count(&raw.server.compute_threads),
        cpu_pinning: resolver.pinning(&raw.server.cpu_pinning).unwrap_or(default.cpu_pinning),
        log: LogSettings {
            filter: resolver.filter(&raw.logging.level).unwrap_or(default.log.filter),
            format: resolver.format(&raw.logging.format).unwrap_or(default.log.format),
        },
        limits: LimitsConfig {
            max_body_bytes,
            max_total_body_bytes: resolver.total_bytes(&raw.limits.max_total_body_bytes, max_body_bytes),
            max_connections: resolver
                .count(&raw.limits.max_connections)
                .unwrap_or(default.limits.max_connections),
            request_timeout: resolver
                .duration(&raw.limits.request_timeout)
                .unwrap_or(default.limits.request_timeout),
            max_in_flight: resolver.count(&raw.limits.max_in_flight).unwrap_or(default.limits.max_in_flight),
            max_n: resolver.count(&raw.limits.max_n).unwrap_or(default.limits.max_n),
            max_stop: resolver.count(&raw.limits.max_stop).unwrap_or(default.limits.max_stop),
            max_logprobs: resolver.count(&raw.limits.max_logprobs).unwrap_or(default.limits.max_logprobs),
        },
        allowed_origins: resolver
            .origins(raw.cors.allowed_origins.as_deref())
            .unwrap_or(default.allowed_origins),
        api_key_file: raw.auth.api_key_file.as_ref().map(|path| base.join(&path.value)),
        shutdown_delay: resolver.duration(&raw.shutdown.delay).unwrap_or(default.shutdown_delay),
        shutdown_grace: resolver.duration(&raw.shutdown.grace).unwrap_or(default.shutdown_grace),
        otlp_endpoint: resolver.parsed(&raw.tracing.otlp_endpoint, check_endpoint),
        dashboard_port: match raw.dashboard.enabled.as_ref().is_none_or(|enabled| enabled.value) {
            true => resolver.port(&raw.dashboard.port).or(default.dashboard_port),
            false => None,
        },
        access: access::resolve(&raw, &mut resolver, base),
        head: head::resolve(&raw.head, &mut resolver, base),
    };
    if resolver.problems.is_empty() { Ok(config) } else { Err(ConfigError(resolver.problems)) }
}

/// Check the address of a collector; used for the command line too.
///
/// # Errors
/// The remedy.
pub(super) fn check_endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("write the address of a collector, such as http://collector:4318".to_owned()),
    }
}

/// Check a level or filter; used for the command line too.
///
/// # Errors
/// The remedy.
pub(super) fn check_filter(text: &str) -> Result<String, String> {
    let is_word = text.chars().all(|c| c.is_ascii_alphabetic());
    let lower = text.to_ascii_lowercase();
    if is_word {
        return if LEVELS.contains(&&*lower) { Ok(lower) } else { Err(suggest(&lower, &LEVELS)) };
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "{error}; write a level ({}), or filters such as `info,hyper=warn`",
            LEVELS.join(", ")
        )),
    }
}

/// Resolves the sections and collects what is wrong with them.
pub(super) struct Resolver<'a> {
    source: &'a Source<'a>,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    pub(super) fn report<T>(&mut self, at: &Spanned<T>, found: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(self.source.problem(at, found, remedy));
    }

    pub(super) fn parsed<T>(
        &mut self,
        field: &Field<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let field = field.as_ref()?;
        parse(&field.value)
            .map_err(|remedy| self.report(field, format!("found `{}`", field.value), remedy))
            .ok()
    }

    pub(super) fn duration(&mut self, field: &Field<String>) -> Option<Duration> {
        self.parsed(field, parse_duration)
    }

    pub(super) fn bytes(&mut self, field: &Field<String>) -> Option<usize> {
        self.parsed(field, |text| {
            let bytes = parse_bytes(text)?;
            usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or("write a size above 0".to_owned())
        })
    }

    /// The limit of all bodies must let one of the largest pass.
    fn total_bytes(&mut self, field: &Field<String>, one: usize) -> usize {
        let default = ServerConfig::default().limits.max_total_body_bytes.max(one);
        let Some(total) = self.bytes(field) else { return default };
        if let Some(field) = field.as_ref().filter(|_| total < one) {
            let found = format!("found `{}`, less than max_body_bytes", field.value);
            self.report(field, found, format!("write at least {}", format_bytes(one as u64)));
        }
        total
    }

    fn filter(&mut self, field: &Field<String>) -> Option<String> {
        self.parsed(field, check_filter)
    }

    fn format(&mut self, field: &Field<String>) -> Option<LogFormat> {
        self.parsed(field, |text| match text {
            "json" => Ok(LogFormat::Json),
            "text" => Ok(LogFormat::Text),
            _ => Err("write json or text".to_owned()),
        })
    }

    fn pinning(&mut self, field: &Field<String>) -> Option<CpuPinning> {
        self.parsed(field, |text| match text {
            "auto" => Ok(CpuPinning::Auto),
            "on" => Ok(CpuPinning::On),
            "off" => Ok(CpuPinning::Off),
            _ => Err("write auto, on or off".to_owned()),
        })
    }

    fn host(&mut self, field: &Field<String>) -> Option<String> {
        self.parsed(field, |text| match text.trim() {
            "" => Err("write an address such as 0.0.0.0 or 127.0.0.1".to_owned()),
            host if host.contains('/') => {
                Err("write an address only, such as 0.0.0.0; the port has its own line".to_owned())
            }
            host => Ok(host.to_owned()),
        })
    }

    pub(super) fn port(&mut self, field: &Field<u64>) -> Option<u16> {
        let field = field.as_ref()?;
        u16::try_from(field.value)
            .map_err(|_| self.report(field, format!("found {}", field.value), "write a port of 0 to 65535"))
            .ok()
    }

    pub(super) fn count(&mut self, field: &Field<u64>) -> Option<usize> {
        let field = field.as_ref()?;
        match usize::try_from(field.value) {
            Ok(count @ 1..=0xffff_ffff) => Some(count),
            _ => {
                let remedy = "write a whole number of 1 or more, or remove the line";
                self.report(field, format!("found {}", field.value), remedy);
                None
            }
        }
    }

    fn origins(&mut self, origins: Option<&[Spanned<String>]>) -> Option<Vec<String>> {
        let origins = origins?;
        for origin in origins {
            let text = &origin.value;
            let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
                ["http", "https"].contains(&scheme) && !host.is_empty() && !host.contains('/')
            });
            if text != "*" && !is_origin {
                let remedy = "write `*`, or origins such as https://chat.example.org, without a path";
                self.report(origin, format!("`{text}` is no web origin"), remedy);
            }
        }
        Some(origins.iter().map(|origin| origin.value.clone()).collect())
    }
}

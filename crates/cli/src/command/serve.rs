//! `vlinders serve`, and `vlinders worker` where it answers requests: listen, load, serve until a signal, drain.

mod load;
pub(super) mod threads;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use vlinders_edge::{ApiKeys, BodyLimits, ConnectionLimits, CorsOrigins, CpuTime, Shutdown};
use vlinders_runner::{GroupEnd, GroupOptions};
use vlinders_server::{Server, ServerConfig as HttpConfig, ServerMetrics};

use self::load::Loaded;
use crate::args::ServeArgs;
use crate::config::{self, ModelConfig, Resolved};
use crate::telemetry::Telemetry;
use crate::{descriptors, logging};

/// Serve every enabled model.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    serve(config::resolve(&args.model, &args.server, &args.compute, Path::new(""))?, Vec::new())
}

/// Serve these models. With `ranks`, there is one of them, and this process is its first rank and those that follow.
pub(super) fn serve(resolved: Resolved, ranks: Vec<GroupOptions>) -> anyhow::Result<ExitCode> {
    logging::start(&resolved.server.log)?;
    tracing::info!(models = resolved.origin.models, server = resolved.origin.server, "configuration");
    let _telemetry = Telemetry::start("worker", resolved.server.otlp_endpoint.as_deref())?;
    let metrics = Arc::new(ServerMetrics::new());
    http_runtime(resolved.server.workers, metrics.cpu_time())?.block_on(async {
        let shutdown = Shutdown::listen().context("cannot listen for signals")?;
        let (listener, address) = listen(&resolved.server).await?;
        let names = resolved.models.iter().map(ModelConfig::names).collect();
        let (server, places) = Server::new(http_config(&resolved.server)?, names, metrics)?;
        tracing::info!(%address, "listening; probes are answered, models are being loaded");
        let loaded = load::start(resolved, places, ranks)?;
        let mut outcome = Ok(());
        vlinders_server::serve(listener, server, async {
            outcome = until_stopped(loaded, shutdown, address).await;
        })
        .await;
        outcome?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// Wait for a signal, for a model that can not be loaded, or for a group of processes that has lost a rank: a server that
/// lacks one of its models would be taken for a whole one by whoever started it, so it ends instead. Loading can not be interrupted and holds nothing worth
/// keeping; it ends with the process.
async fn until_stopped(
    loaded: impl Future<Output = anyhow::Result<Loaded>>,
    mut shutdown: Shutdown,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let Loaded { group_end } = tokio::select! {
        loaded = loaded => loaded?,
        cause = shutdown.requested() => {
            tracing::info!(signal = cause.as_str(), "stopped while loading; running requests finish");
            return Ok(());
        }
    };
    tracing::info!(%address, "ready: try `vlinders chat --url http://127.0.0.1:{}`", address.port());
    tokio::select! {
        cause = shutdown.requested() => {
            tracing::info!(signal = cause.as_str(), "no new requests; running ones finish");
            Ok(())
        }
        end = group_end => match end {
            GroupEnd::Asked { .. } => {
                tracing::info!("{end}: no new requests; running ones finish");
                Ok(())
            }
            GroupEnd::Broken(_) => bail!("{end}"),
        }
    }
}

/// Listen where the configuration says.
pub(super) async fn listen(settings: &config::ServerConfig) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let (host, port) = (settings.host.as_str(), settings.port);
    let listener = TcpListener::bind((host, port)).await.with_context(|| {
        format!("cannot listen on {host}:{port}; choose another one with --host and --port")
    })?;
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    Ok((listener, address))
}

/// This many threads for HTTP, which tell what they take of the processor.
pub(super) fn http_runtime(threads: usize, cpu_time: &CpuTime) -> anyhow::Result<Runtime> {
    let (parking, ending) = (cpu_time.clone(), cpu_time.clone());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("http")
        .on_thread_park(move || parking.tell())
        .on_thread_stop(move || ending.tell())
        .enable_all()
        .build()
        .context("cannot start the threads that serve")
}

/// The keys that clients may use; `None` lets everybody in.
fn api_keys(settings: &config::ServerConfig) -> anyhow::Result<Option<ApiKeys>> {
    let keys = config::server_keys(settings.api_key_file.as_deref()).map_err(config::ConfigError::from)?;
    // A head tells consumers apart by names before the keys; here only the keys count.
    let keys: Vec<_> = keys.iter().filter_map(|line| line.split_whitespace().last()).collect();
    let api_keys = if keys.is_empty() { None } else { Some(ApiKeys::parse(&keys.join("\n"))?) };
    if api_keys.is_none() {
        tracing::warn!("no API keys are configured: whoever reaches this address is served");
    }
    Ok(api_keys)
}

fn http_config(settings: &config::ServerConfig) -> anyhow::Result<HttpConfig> {
    let default = HttpConfig::default();
    let access = &settings.access;
    if access.jwt.is_some() || access.gateway.is_some() {
        bail!(
            "`auth.jwt` and `auth.gateway` are checked by `vlinders head` alone; put one before this server, or remove them"
        );
    }
    if access.limits.is_limited() {
        tracing::warn!("`rate_limits` hold at `vlinders head` alone; this server does not know them");
    }
    let limits = &settings.limits;
    let body = BodyLimits {
        max_bytes: limits.max_body_bytes,
        max_total_bytes: limits.max_total_body_bytes,
        ..default.body
    };
    let max_connections = descriptors::connections(limits.max_connections);
    Ok(HttpConfig {
        body,
        connections: ConnectionLimits { max_connections, ..default.connections },
        max_in_flight: limits.max_in_flight,
        request_timeout: limits.request_timeout,
        max_n: limits.max_n,
        max_stop: limits.max_stop,
        max_logprobs: limits.max_logprobs,
        shutdown_grace: settings.shutdown_grace,
        cors: CorsOrigins::parse(settings.allowed_origins.iter().map(String::as_str))?,
        api_keys: api_keys(settings)?,
        ..default
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_limit_of_the_configuration_holds() {
        let mut settings = config::ServerConfig::default();
        let limits = &mut settings.limits;
        (limits.max_body_bytes, limits.max_total_body_bytes, limits.max_connections) = (11, 12, 13);
        limits.request_timeout = Duration::from_secs(14);
        (limits.max_in_flight, limits.max_n, limits.max_stop, limits.max_logprobs) = (15, 16, 17, 18);
        settings.shutdown_grace = Duration::from_secs(19);
        let http = http_config(&settings).unwrap();
        assert_eq!((http.body.max_bytes, http.body.max_total_bytes), (11, 12));
        assert_eq!((http.connections.max_connections, http.request_timeout.as_secs()), (13, 14));
        assert_eq!((http.max_in_flight, http.max_n, http.max_stop, http.max_logprobs), (15, 16, 17, 18));
        assert_eq!(http.shutdown_grace.as_secs(), 19);
    }

    #[test]
    fn the_defaults_of_both_configurations_agree() {
        let http = http_config(&config::ServerConfig::default()).unwrap();
        let default = HttpConfig::default();
        assert_eq!((http.body, http.connections), (default.body, default.connections));
        assert_eq!(
            (http.max_in_flight, http.max_n, http.max_stop, http.max_logprobs),
            (default.max_in_flight, default.max_n, default.max_stop, default.max_logprobs)
        );
    }
}

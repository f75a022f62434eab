//! `vlinders serve` and `vlinders worker`: listen, load, serve until a signal, drain.

mod load;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use vlinders_edge::{ApiKeys, CorsOrigins, Shutdown};
use vlinders_server::{Server, ServerConfig as HttpConfig, ServerMetrics};

use crate::args::{ServeArgs, WorkerArgs};
use crate::config::{self, ModelConfig, Resolved};
use crate::logging;

/// Serve every enabled model.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    serve(config::resolve(&args.model, &args.server, Path::new(""))?)
}

/// Serve one model of models.yaml.
pub(crate) fn run_worker(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let mut resolved = config::resolve(&args.serve.model, &args.serve.server, Path::new(""))?;
    let names: Vec<_> = resolved.models.iter().map(|model| model.name.clone()).collect();
    resolved.models.retain(|model| model.name == args.model);
    if resolved.models.is_empty() {
        bail!(
            "{} has no enabled model '{}'; it has {}",
            resolved.origin.models,
            args.model,
            names.join(", ")
        );
    }
    serve(resolved)
}

fn serve(resolved: Resolved) -> anyhow::Result<ExitCode> {
    logging::start(&resolved.server.log)?;
    tracing::info!(models = resolved.origin.models, server = resolved.origin.server, "configuration");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(resolved.server.workers)
        .enable_all()
        .build()
        .context("cannot start the threads that serve")?;
    runtime.block_on(async {
        let shutdown = Shutdown::listen().context("cannot listen for signals")?;
        let (host, port) = (resolved.server.host.as_str(), resolved.server.port);
        let listener = TcpListener::bind((host, port)).await.with_context(|| {
            format!("cannot listen on {host}:{port}; choose another one with --host and --port")
        })?;
        let address = listener.local_addr().context("cannot tell the address listened on")?;
        let names = resolved.models.iter().map(ModelConfig::names).collect();
        let (server, places) =
            Server::new(http_config(&resolved.server)?, names, Arc::new(ServerMetrics::new()))?;
        tracing::info!(%address, "listening; probes are answered, models are being loaded");
        let loaded = load::start(resolved, places)?;
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

/// Wait for a signal, or for a model that can not be loaded: a server that lacks one of its models would be taken for
/// a whole one by whoever started it, so it ends instead. Loading can not be interrupted and holds nothing worth
/// keeping; it ends with the process.
async fn until_stopped(
    loaded: impl Future<Output = anyhow::Result<()>>,
    mut shutdown: Shutdown,
    address: SocketAddr,
) -> anyhow::Result<()> {
    tokio::select! {
        loaded = loaded => loaded?,
        cause = shutdown.requested() => {
            tracing::info!(signal = cause.as_str(), "stopped while loading; running requests finish");
            return Ok(());
        }
    }
    tracing::info!(%address, "ready: try `vlinders chat --url http://127.0.0.1:{}`", address.port());
    let cause = shutdown.requested().await;
    tracing::info!(signal = cause.as_str(), "no new requests; running ones finish");
    Ok(())
}

fn http_config(settings: &config::ServerConfig) -> anyhow::Result<HttpConfig> {
    let default = HttpConfig::default();
    let keys = config::server_keys(settings.api_key_file.as_deref()).map_err(config::ConfigError::from)?;
    let api_keys = if keys.is_empty() { None } else { Some(ApiKeys::parse(&keys.join("\n"))?) };
    if api_keys.is_none() {
        tracing::warn!("no API keys are configured: whoever reaches this address is served");
    }
    let limits = &settings.limits;
    let mut body = default.body;
    body.max_bytes = limits.max_body_bytes;
    Ok(HttpConfig {
        body,
        max_in_flight: limits.max_in_flight,
        request_timeout: limits.request_timeout,
        max_n: limits.max_n,
        max_stop: limits.max_stop,
        max_logprobs: limits.max_logprobs,
        shutdown_grace: settings.shutdown_grace,
        cors: CorsOrigins::parse(settings.allowed_origins.iter().map(String::as_str))?,
        api_keys,
        ..default
    })
}

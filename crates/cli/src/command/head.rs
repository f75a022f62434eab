//! `vlinders head`: find workers, listen, route until a signal, drain.

mod access;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use vlinders_edge::{BodyLimits, ConnectionLimits, CorsOrigins, Secret, Shutdown};
use vlinders_head::{
    Discovery, DnsDiscovery, FixedDiscovery, Head, HeadConfig, HeadMetrics, HeadParts, KubernetesDiscovery,
    Pool,
};

use super::serve::{http_runtime, listen};
use crate::args::HeadArgs;
use crate::config::{self, PoolSettings, ResolvedHead, WorkerSource};
use crate::telemetry::Telemetry;
use crate::{descriptors, logging};

/// Between two lookups of a DNS name.
const DNS_INTERVAL: Duration = Duration::from_secs(3);

/// Route requests to workers.
pub(crate) fn run(args: &HeadArgs) -> anyhow::Result<ExitCode> {
    let resolved = config::resolve_head(args, Path::new(""))?;
    logging::start(&resolved.server.log)?;
    tracing::info!(models = resolved.origin.models, server = resolved.origin.server, "configuration");
    let _telemetry = Telemetry::start("head", resolved.server.otlp_endpoint.as_deref())?;
    let metrics = Arc::new(HeadMetrics::new());
    http_runtime(resolved.server.workers, metrics.cpu_time())?.block_on(serve(resolved, metrics))
}

async fn serve(resolved: ResolvedHead, metrics: Arc<HeadMetrics>) -> anyhow::Result<ExitCode> {
    let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
    let host = resolved.server.host.as_str();
    let (listener, address) = listen(&resolved.server).await?;
    let mut parts = HeadParts {
        authenticator: access::authenticator(&resolved.server)?,
        limiter: access::limiter(&resolved.server.access.limits, &metrics).await?,
        ledger: access::ledger(&resolved.server.access.ledger, &metrics).await?,
        workers: Vec::new(),
    };
    for pool in &resolved.server.head.pools {
        parts.workers.push(discovery(pool).await?);
    }
    let head = Head::new(head_config(&resolved)?, parts, metrics)?;
    if let Some(peers) = &resolved.server.head.peers {
        let pool = Arc::new(Pool { name: "heads".to_owned(), weight: 1 });
        head.follow_peers(Box::new(DnsDiscovery::new(pool, peers.clone(), DNS_INTERVAL)));
    }
    if let Some(port) = resolved.server.head.scaler_port {
        let scaler = TcpListener::bind((host, port)).await.with_context(|| {
            format!("cannot listen on {host}:{port}; choose another `head.scaler_port` in server.yaml")
        })?;
        tracing::info!(port, "KEDA is answered");
        tokio::spawn(vlinders_head::serve_scaler(scaler, head.clone()));
    }
    if let Some(port) = resolved.server.dashboard_port {
        // Requests are served without a dashboard too.
        match TcpListener::bind((host, port))
            .await
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
        {
            Ok((address, listener)) => {
                tracing::info!(%address, "dashboard: http://127.0.0.1:{}", address.port());
                tokio::spawn(vlinders_head::serve_dashboard(listener, head.clone()));
            }
            Err(error) => {
                tracing::error!(%error, port, "there is no dashboard; choose another --dashboard-port")
            }
        }
    }
    let settled = head.clone();
    vlinders_head::serve(listener, head, async {
        let ready = async {
            settled.settled().await;
            tracing::info!(%address, "ready: try `vlinders chat --url http://127.0.0.1:{}`", address.port());
            std::future::pending::<()>().await;
        };
        tokio::select! {
            cause = shutdown.requested() => tracing::info!(signal = cause.as_str(), "stopping"),
            () = ready => {}
        }
    })
    .await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn discovery(settings: &PoolSettings) -> anyhow::Result<Box<dyn Discovery>> {
    let pool = Arc::new(Pool { name: settings.name.clone(), weight: settings.weight });
    Ok(match &settings.source {
        WorkerSource::Addresses(addresses) => Box::new(FixedDiscovery { pool, addresses: addresses.clone() }),
        WorkerSource::Dns(name) => Box::new(DnsDiscovery::new(pool, name.clone(), DNS_INTERVAL)),
        WorkerSource::Kubernetes { namespace, services, port } => {
            Box::new(KubernetesDiscovery::connect(pool, namespace.as_deref(), services, port.clone()).await?)
        }
    })
}

fn head_config(resolved: &ResolvedHead) -> anyhow::Result<HeadConfig> {
    let default = HeadConfig::default();
    let settings = &resolved.server;
    let limits = &settings.limits;
    let key = match &settings.head.worker_key_file {
        Some(file) => config::first_key(Some(file)).map_err(config::ConfigError::from)?,
        None => None,
    };
    Ok(HeadConfig {
        models: resolved.models.clone(),
        worker_key: key.map(Secret::new),
        health: settings.head.health,
        queue: settings.head.queue,
        body: BodyLimits {
            max_bytes: limits.max_body_bytes,
            max_total_bytes: limits.max_total_body_bytes,
            ..default.body
        },
        connections: ConnectionLimits {
            max_connections: descriptors::connections(limits.max_connections),
            ..default.connections
        },
        max_in_flight: limits.max_in_flight,
        request_timeout: limits.request_timeout,
        shutdown_delay: settings.shutdown_delay,
        shutdown_grace: settings.shutdown_grace,
        cors: CorsOrigins::parse(settings.allowed_origins.iter().map(String::as_str))?,
        ..default
    })
}

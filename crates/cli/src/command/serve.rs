//! `vlinders serve` and `vlinders worker`: load, listen, serve until a signal, drain.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use vlinders_edge::{ApiKeys, CorsOrigins, Shutdown};
use vlinders_engine::EngineConfig;
use vlinders_runner::{LoadedModel, load};
use vlinders_server::{
    ModelSettings, ServedModel, Server, ServerConfig as HttpConfig, ServerMetrics, ToolParser,
};

use crate::args::{ServeArgs, WorkerArgs};
use crate::config::{self, ModelConfig, Resolved, format_bytes, format_duration};
use crate::logging;
use crate::progress::ShownProgress;

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
        let mut shutdown = Shutdown::listen().context("cannot listen for signals")?;
        // Bound before the long part: an address that is taken is told at once.
        let (host, port) = (resolved.server.host.as_str(), resolved.server.port);
        let listener = TcpListener::bind((host, port)).await.with_context(|| {
            format!("cannot listen on {host}:{port}; choose another one with --host and --port")
        })?;
        let loading = tokio::task::spawn_blocking(move || load_all(&resolved));
        let server = tokio::select! {
            server = loading => server.context("loading was cut off")??,
            cause = shutdown.requested() => {
                tracing::info!(signal = cause.as_str(), "stopped while loading");
                // Loading can not be interrupted and holds nothing worth keeping.
                std::process::exit(0);
            }
        };
        announce(&listener)?;
        vlinders_server::serve(listener, server, async move {
            let cause = shutdown.requested().await;
            tracing::info!(signal = cause.as_str(), "no new requests; running ones finish");
        })
        .await;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// Load every model, one after the other, and put them behind one server.
fn load_all(resolved: &Resolved) -> anyhow::Result<Server> {
    let settings = &resolved.server;
    if let Some(threads) = settings.compute_threads {
        vlinders_runner::set_num_threads(threads);
    }
    let metrics = Arc::new(ServerMetrics::new());
    let share = 1.0 / resolved.models.len() as f64;
    let models = resolved
        .models
        .iter()
        .map(|model| load_one(model, share, &metrics).with_context(|| format!("model '{}'", model.name)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Server::new(http_config(settings)?, models, metrics)?)
}

fn load_one(model: &ModelConfig, share: f64, metrics: &Arc<ServerMetrics>) -> anyhow::Result<ServedModel> {
    let files = model.files();
    // The small files first: what is wrong with them should not cost the time that weights take.
    let text = model.text(&files)?;
    let progress = ShownProgress::new(&model.name);
    let LoadedModel { executor, info, report } = load(&files, &model.load_options(share), &progress)?;
    drop(progress);
    tracing::info!(
        model = model.name,
        architecture = info.architecture,
        parameters = info.num_parameters,
        weights = %format_bytes(info.weight_bytes),
        kv_cache = %format_bytes(info.kv_bytes),
        max_model_len = info.max_model_len,
        open_ms = report.open.as_millis() as u64,
        read_ms = report.read.as_millis() as u64,
        convert_ms = report.convert.as_millis() as u64,
        warm_up_ms = report.warm_up.as_millis() as u64,
        total = %format_duration(report.total),
        "loaded"
    );
    for (phase, duration) in report.phases() {
        let labels = [("model_name", model.name.as_str()), ("phase", phase)];
        metrics.registry().gauge("vlinders_load_seconds", &labels).set(duration.as_secs_f64());
    }
    let sizes = EngineConfig {
        block_size: info.block_size,
        num_blocks: info.num_blocks,
        max_num_seqs: model.max_num_seqs,
        max_batched_tokens: model.max_batched_tokens.max(model.max_num_seqs),
        max_waiting: model.max_waiting,
        max_model_len: info.max_model_len,
        prefix_caching: model.prefix_caching,
    };
    let engine = vlinders_engine::start(sizes, executor, metrics.observer(&model.name))?;
    let settings = ModelSettings {
        name: model.name.clone(),
        aliases: model.aliases.clone(),
        fingerprint: info.fingerprint,
        max_model_len: info.max_model_len,
        vocab_size: info.vocab_size,
        tool_parser: model.hermes_tools.then_some(ToolParser::Hermes),
    };
    Ok(ServedModel::new(settings, engine, Arc::new(text), metrics))
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

fn announce(listener: &TcpListener) -> anyhow::Result<()> {
    let address = listener.local_addr().context("cannot tell the address listened on")?;
    let port = address.port();
    tracing::info!(%address, "ready: try `vlinders chat --url http://127.0.0.1:{port}`");
    Ok(())
}

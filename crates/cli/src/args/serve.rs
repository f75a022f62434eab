//! Arguments of `vlinders serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::ModelArgs;
use crate::config::parse_duration;

const EXAMPLES: &str = "\
Examples:
  vlinders serve                                     ./models.yaml and ./server.yaml where present
  vlinders serve /models/Qwen3-0.6B --port 9000      one folder, no configuration file
  vlinders serve /models/Qwen3-0.6B-Q8_0.gguf        one GGUF file
  vlinders serve --models prod.yaml --server prod-server.yaml
  VLINDERS_API_KEYS=secret vlinders serve            only clients that send this key

Then:
  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"model\": \"vlinders-demo\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'

Signals: SIGTERM and Ctrl-C stop accepting requests, let running ones finish within the grace time, then exit 0.";

/// Serve models over HTTP
///
/// Loads every enabled model of models.yaml and answers the OpenAI API for all of them on one port. It answers from the
/// start: /health says how far each model is, requests for one that is still being loaded get 503 with Retry-After, and
/// /ready turns to 200 when all are loaded. A model that can not be loaded ends the process with status 1.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ComputeArgs {
    /// Threads that compute, all models together [default: as many as the model with the most --num-threads may have;
    /// for one without, the physical cores this process may use, or its CPU limit where that is smaller]
    #[arg(long, value_name = "N", env = "VLINDERS_COMPUTE_THREADS")]
    pub(crate) compute_threads: Option<usize>,

    /// Whether threads that compute are bound to cores [default: auto]
    #[arg(long, value_name = "WHEN", env = "VLINDERS_CPU_PINNING")]
    pub(crate) cpu_pinning: Option<CpuPinning>,
}

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerArgs {
    /// Settings of the server [default: ./server.yaml if it exists]
    #[arg(long = "server", value_name = "FILE", env = "VLINDERS_SERVER")]
    pub(crate) file: Option<PathBuf>,

    /// Address to listen on [default: 0.0.0.0, all addresses of this machine]
    #[arg(long, value_name = "HOST", env = "VLINDERS_HOST")]
    pub(crate) host: Option<String>,

    /// Port to listen on; 0 takes any free one [default: 8000]
    #[arg(long, value_name = "PORT", env = "VLINDERS_PORT")]
    pub(crate) port: Option<u16>,

    /// Threads that handle HTTP; where models are computed, that has threads of its own [default: 2]
    #[arg(long, value_name = "N", env = "VLINDERS_WORKERS")]
    pub(crate) workers: Option<usize>,

    /// File with one API key a line; without it, and without VLINDERS_API_KEYS (comma-separated), no key is asked for
    #[arg(long, value_name = "FILE", env = "VLINDERS_API_KEY_FILE")]
    pub(crate) api_key_file: Option<PathBuf>,

    /// How long running requests may go on after SIGTERM, such as 30s or 5m [default: 30s]
    #[arg(long, value_name = "TIME", env = "VLINDERS_SHUTDOWN_GRACE", value_parser = parse_duration)]
    pub(crate) shutdown_grace: Option<Duration>,

    /// Collector of traces (OpenTelemetry, OTLP over HTTP), such as http://collector:4318; without it nothing is sent
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Tracing")]
    pub(crate) otlp_endpoint: Option<String>,

    /// error, warn, info, debug, trace, or filters such as `info,vlinders_engine=debug` [default: info]
    #[arg(long, value_name = "LEVEL", env = "VLINDERS_LOG_LEVEL", help_heading = "Logging")]
    pub(crate) log_level: Option<String>,

    /// How log lines are written to standard error [default: text]
    #[arg(long, value_name = "FORMAT", env = "VLINDERS_LOG_FORMAT", help_heading = "Logging")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Whether threads that compute are bound to cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CpuPinning {
    /// Where one model has a thread on every core of this process, and no quota gives time instead of cores
    Auto,
    /// Wherever there are as many cores as threads
    On,
    /// Never
    Off,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

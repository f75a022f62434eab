//! Arguments of `vlinders head`.

use std::path::PathBuf;
use std::time::Duration;

use super::ServerArgs;
use crate::config::parse_duration;

const EXAMPLES: &str = "\
Examples:
  vlinders head --worker 10.0.0.1:8000 --worker 10.0.0.2:8000     workers at known addresses
  vlinders head --models models.yaml --server server.yaml         workers as `head.workers` of server.yaml says: addresses,
                                                                  a DNS name, or a Kubernetes service

On one machine:
  vlinders serve --port 8001 &
  vlinders serve --port 8002 &
  vlinders head --worker 127.0.0.1:8001 --worker 127.0.0.1:8002 --port 8000

With --models, exactly the enabled models of that file are offered, also while no worker has them: requests then wait for one, up to
a number and a time. Without, whatever workers serve is offered.
Signals: after SIGTERM requests are still taken for the delay (for load balancers to notice), then running ones finish.";

/// Route requests to many workers behind one address
///
/// The same API as a worker, over any number of them. Each request goes where its conversation is cached, unless that worker has
/// more to do than others; a request that has got no byte yet is sent elsewhere when its worker fails; when no worker is there,
/// requests wait.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HeadArgs {
    /// Models to offer: a models.yaml, of which names, aliases and limits are read
    #[arg(long, value_name = "FILE", env = "VLINDERS_MODELS")]
    pub(crate) models: Option<PathBuf>,

    /// A worker; may be given several times, or as a list with commas. Wins over `head.workers` of server.yaml
    #[arg(
        id = "worker",
        long = "worker",
        value_name = "HOST:PORT",
        env = "VLINDERS_HEAD_WORKERS",
        value_delimiter = ','
    )]
    pub(crate) workers: Vec<String>,

    /// File with the API key that workers ask for
    #[arg(long, value_name = "FILE", env = "VLINDERS_WORKER_KEY_FILE")]
    pub(crate) worker_key_file: Option<PathBuf>,

    /// Port of the dashboard; 0 takes any free one [default: 8265]
    #[arg(long, value_name = "PORT", env = "VLINDERS_DASHBOARD_PORT")]
    pub(crate) dashboard_port: Option<u16>,

    /// How long requests are still taken after SIGTERM, before running ones are waited for [default: 5s]
    #[arg(long, value_name = "TIME", env = "VLINDERS_SHUTDOWN_DELAY", value_parser = parse_duration)]
    pub(crate) shutdown_delay: Option<Duration>,

    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

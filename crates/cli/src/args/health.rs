//! Arguments of `vlinders health`.

use std::time::Duration;

use crate::config::parse_duration;

const EXAMPLES: &str = "\
Examples:
  vlinders health                                    whether the server on this machine answers
  vlinders health --ready --url http://127.0.0.1:9000
  HEALTHCHECK CMD [\"vlinders\", \"health\"]             in a Dockerfile, whose image needs no shell for it

Exit status: 0 when it is well, 1 when it is not, or does not answer.";

/// Ask a server whether it is well
///
/// Prints nothing but what is wrong. It needs no API key.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HealthArgs {
    /// Address of the server or head
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,

    /// Ask whether it can take requests now, not only whether it works
    #[arg(long)]
    pub(crate) ready: bool,

    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

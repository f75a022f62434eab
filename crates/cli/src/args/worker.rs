//! Arguments of `vlinders worker`.

use std::path::PathBuf;
use std::time::Duration;

use super::ServeArgs;
use crate::config::parse_duration;

const EXAMPLES: &str = "\
Examples:
  vlinders worker --model qwen3-0.6b                 one model of models.yaml; its ranks are threads of this process

  One model on two hosts, of which the first, called node-a here, serves it:
  vlinders worker --model llama-3-70b --rank 0 --ranks 2 --leader node-a:7000
  vlinders worker --model llama-3-70b --rank 1 --ranks 2 --leader node-a:7000

  The same where each host has eight GPUs, and so eight ranks:
  vlinders worker --model llama-3-405b --process 0 --ranks-here 8 --ranks 16 --leader node-a:7000
  vlinders worker --model llama-3-405b --process 1 --ranks-here 8 --ranks 16 --leader node-a:7000

All ranks need the same models.yaml, the same files of the model, and the same group secret. They live and die together:
when one ends, is stopped or cut off, all end with status 1, and whoever supervises them starts them again.
What ranks send each other is authenticated by the secret when they connect, but not encrypted: give them a network of their own.";

/// Serve one model of models.yaml
///
/// The same server as `vlinders serve`, with the one model that is named; the others of the file are left alone. With --rank,
/// --ranks and --leader, the model is split among several processes, each of which loads its share of the weights.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WorkerArgs {
    /// Name of the model in models.yaml
    #[arg(long, value_name = "NAME", env = "VLINDERS_MODEL")]
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Group of processes")]
pub(crate) struct GroupArgs {
    /// Which rank this process is, from 0; rank 0 answers requests
    #[arg(long, value_name = "R", env = "VLINDERS_RANK", requires_all = ["ranks", "leader"], group = "place")]
    pub(crate) rank: Option<usize>,

    /// Which process this is, from 0, instead of --rank: its ranks follow those of the processes before it
    #[arg(long, value_name = "P", env = "VLINDERS_PROCESS", requires_all = ["ranks", "leader"], group = "place")]
    pub(crate) process: Option<usize>,

    /// How many ranks this process is, with --process: one for each of its GPUs [default: 1]
    #[arg(long, value_name = "N", env = "VLINDERS_RANKS_HERE", requires = "process")]
    pub(crate) ranks_here: Option<usize>,

    /// How many ranks share the model
    #[arg(long, value_name = "N", env = "VLINDERS_RANKS", requires_all = ["place", "leader"])]
    pub(crate) ranks: Option<usize>,

    /// Where rank 0 waits for the others
    #[arg(long, value_name = "HOST:PORT", env = "VLINDERS_LEADER", requires_all = ["place", "ranks"])]
    pub(crate) leader: Option<String>,

    /// File with what all ranks of the group know, and nobody else; without it, and without VLINDERS_GROUP_SECRET, whoever
    /// reaches a rank may join
    #[arg(long, value_name = "FILE", env = "VLINDERS_GROUP_SECRET_FILE", requires = "place")]
    pub(crate) group_secret_file: Option<PathBuf>,

    /// How long ranks wait for each other to be started [default: 10m]
    #[arg(long, value_name = "TIME", env = "VLINDERS_JOIN_TIMEOUT", value_parser = parse_duration, requires = "place")]
    pub(crate) join_timeout: Option<Duration>,

    /// How long a rank may give no sign of life before all end [default: 10s]
    #[arg(long, value_name = "TIME", env = "VLINDERS_RANK_TIMEOUT", value_parser = parse_duration, requires = "place")]
    pub(crate) rank_timeout: Option<Duration>,
}

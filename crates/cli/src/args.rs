//! The command line as parsed: nothing here is checked against files or the machine.
//!
//! Options left out stay `None`, so that `config` can tell a choice from a default.

mod bench;
mod chat;
mod check;
mod client;
mod completions;
mod deploy;
mod head;
mod health;
mod model;
mod pack;
mod pull;
mod quantize;
mod serve;
mod usage;
mod worker;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub(crate) use self::{
    bench::{ApiKind, BenchArgs, LengthRange},
    chat::ChatArgs,
    check::CheckArgs,
    client::ClientArgs,
    completions::CompletionsArgs,
    deploy::{AutoscalerKind, DeployArgs, DeployCommand, RenderArgs},
    head::HeadArgs,
    health::HealthArgs,
    model::ModelArgs,
    pack::PackArgs,
    pull::{BucketStyle, PullArgs},
    quantize::QuantizeArgs,
    serve::{ComputeArgs, CpuPinning, LogFormat, ServeArgs, ServerArgs},
    usage::{UsageArgs, UsageForm, UsageKey},
    worker::{GroupArgs, WorkerArgs},
};

const EXAMPLES: &str = "\
Examples:
  vlinders                                  serve ./models.yaml, or the built-in model, on port 8000
  vlinders serve /models/Qwen3-0.6B         serve one Hugging Face folder
  vlinders serve Qwen3-0.6B-Q8_0.gguf       serve one GGUF file
  vlinders head --worker 10.0.0.1:8000      route requests to workers
  vlinders check --models models.yaml       say whether configuration, weights and memory fit
  vlinders pull --models models.yaml        fetch the models that have a source
  vlinders chat                             talk to the server on this machine
  vlinders bench --concurrency 16           load-test it

Every option of `vlinders serve` can also be given in the environment (VLINDERS_*) or in server.yaml and models.yaml.
The command line wins over the environment, the environment over files, files over defaults.";

/// Serve large language models over an OpenAI-compatible HTTP API
///
/// One binary: it loads models from Hugging Face folders and GGUF files, serves them with continuous batching and a paged
/// KV cache, routes requests to many such servers, checks a deployment before it goes out, load-tests it, and talks to it from a terminal.
/// Without a command it does what `vlinders serve` does.
#[derive(Debug, Parser)]
#[command(name = "vlinders", version, after_help = EXAMPLES, max_term_width = 110, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArgs>),
    Worker(Box<WorkerArgs>),
    Head(Box<HeadArgs>),
    Check(Box<CheckArgs>),
    Quantize(QuantizeArgs),
    Pack(PackArgs),
    Pull(Box<PullArgs>),
    Deploy(DeployArgs),
    Chat(Box<ChatArgs>),
    Bench(Box<BenchArgs>),
    Usage(UsageArgs),
    Health(HealthArgs),
    Completions(CompletionsArgs),
    Version(VersionArgs),
}

/// Print the version and what this binary was built for
#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Parse the arguments of this process. Prints help or an error and ends the process where they say so.
pub(crate) fn parse() -> Args {
    Args::parse_from(with_default_command(std::env::args_os().collect()))
}

/// `vlinders [OPTIONS]` means `vlinders serve [OPTIONS]`.
fn with_default_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_serve = match words.get(1).map(|word| word.to_string_lossy()) {
        None => true,
        Some(word) => word.starts_with('-') && !["-h", "--help", "-V", "--version"].contains(&&*word),
    };
    if is_serve {
        words.insert(words.len().min(1), "serve".into());
    }
    words
}

#[cfg(test)]
mod tests;

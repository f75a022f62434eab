//! Runs the command that was asked for, and decides the exit status and how an error is told.

mod check;
mod completions;
mod deploy;
mod follow;
mod head;
mod health;
mod member;
mod pack;
mod pull;
mod quantize;
mod serve;
mod usage;
mod version;
mod worker;

use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::{bench, chat};

/// Run a command to its end.
pub(crate) fn run(args: Args) -> ExitCode {
    let outcome: anyhow::Result<ExitCode> = match args.command {
        Command::Serve(args) => serve::run(&args),
        Command::Worker(args) => worker::run(&args),
        Command::Head(args) => head::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Pack(args) => pack::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Deploy(args) => deploy::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Usage(args) => usage::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Version(args) => version::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

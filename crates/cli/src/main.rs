//! The `vlinders` binary: parses the command line and hands over to one command.

mod args;
mod bench;
mod chat;
mod client;
mod command;
mod config;
mod descriptors;
mod files;
mod logging;
mod progress;
mod telemetry;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::run(args::parse())
}

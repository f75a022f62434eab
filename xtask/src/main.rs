//! `cargo xtask`: the project's own checks, and the one command that runs every test.

mod check;
mod clients;
mod cuda;
mod dashboard;
mod deploy;
mod edges;
mod rooms;
mod sources;
mod tests;
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks and tests of this repository")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every test: Rust, documentation, the official API clients against a started server, the dashboard in a browser,
    /// what deploys the platform
    Test(tests::TestArgs),
    /// Assert what no compiler asserts: dependency edges, rooms of `unsafe` and CUDA, file headers, licences
    Check,
    /// Compile the GPU kernels and compare what they take with a table; needs no GPU, sets up nvcc where there is none
    Cuda(cuda::CudaArgs),
    /// Run the official Python and Node clients against a freshly built server
    Clients,
    /// Look at the dashboard with a browser
    Dashboard,
    /// Try out what deploys the platform: scripts, databases, rules, and the whole of it on this machine
    Deploy,
}

fn main() -> ExitCode {
    let root = repo_root();
    let outcome = match Args::parse().task {
        Task::Test(args) => tests::run(&root, &args),
        Task::Check => check::run(&root),
        Task::Cuda(args) => cuda::run(&root, &args),
        Task::Clients => clients::run(&root),
        Task::Dashboard => dashboard::run(&root),
        Task::Deploy => deploy::run(&root),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder that holds the workspace's Cargo.toml.
fn repo_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Run a command that shows its own output.
///
/// # Errors
/// The command can not be started, or ends with a status other than 0.
fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("+ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root);
    command
}

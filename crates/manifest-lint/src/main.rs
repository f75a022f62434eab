//! `manifest-lint`: looks at an overlay, a folder or a stream of manifests, prints what it finds, ends with 1 if there is anything.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use vlinders_manifest_lint::{ALL, Flows, Input, Secrets, Set, check, render};

#[derive(Parser)]
#[command(
    name = "manifest-lint",
    about = "What must hold in the platform's manifests, checked without a cluster",
    after_help = "Findings are printed as FILE/OBJECT: RULE: WHAT: REMEDY. Without arguments, manifests are read from standard input."
)]
struct Args {
    /// Render this overlay with `kubectl kustomize`, and look at the scripts beside the tables too
    #[arg(long, value_name = "DIR", conflicts_with = "folder")]
    overlay: Option<PathBuf>,
    /// Read the .yaml and .sh files of this folder
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The folder of secrets.yaml and flows.yaml
    #[arg(long, value_name = "DIR", default_value = "deploy")]
    tables: PathBuf,
    /// Say what each rule asks for
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for rule in ALL {
            println!("{:18} {}", rule.id, rule.explains);
        }
        return ExitCode::SUCCESS;
    }
    match run(&args) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(count) => {
            eprintln!("{count} findings; `manifest-lint --list` explains the rules");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<usize> {
    let findings = check(&Set::new(input(args)?, secrets(&args.tables)?, flows(&args.tables)?));
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.len())
}

fn input(args: &Args) -> anyhow::Result<Input> {
    Ok(match (&args.overlay, &args.folder) {
        (Some(overlay), _) => {
            let name = overlay.display().to_string();
            let mut input = Input::stream(&name, &render(overlay)?)?;
            for folder in ["", "scripts", "scripts/lib"].map(|folder| args.tables.join(folder)) {
                if folder.is_dir() {
                    input = input.with_scripts(&folder)?;
                }
            }
            input
        }
        (None, Some(folder)) => Input::folder(folder)?,
        (None, None) => {
            let mut stream = String::new();
            std::io::stdin().read_to_string(&mut stream).context("standard input is no text")?;
            Input::stream("stdin", &stream)?
        }
    })
}

/// Without the table, only secrets that the manifests make are known.
fn secrets(tables: &Path) -> anyhow::Result<Secrets> {
    let path = tables.join("secrets.yaml");
    if path.is_file() { Ok(Secrets::read(&path)?) } else { Ok(Secrets::default()) }
}

/// Without the table, flows are not evaluated.
fn flows(tables: &Path) -> anyhow::Result<Option<Flows>> {
    let path = tables.join("flows.yaml");
    if path.is_file() { Ok(Some(Flows::read(&path)?)) } else { Ok(None) }
}

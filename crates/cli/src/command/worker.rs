//! `vlinders worker`: one model of models.yaml, as the process that answers requests or as another rank.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::{follow, serve};
use crate::args::WorkerArgs;
use crate::config;

/// Serve one model of models.yaml, or compute a share of it.
pub(crate) fn run(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let mut resolved =
        config::resolve(&args.serve.model, &args.serve.server, &args.serve.compute, Path::new(""))?;
    let names: Vec<_> = resolved.models.iter().map(|model| model.name.clone()).collect();
    resolved.models.retain(|model| model.name == args.model);
    let Some(model) = resolved.models.first() else {
        bail!(
            "{} has no enabled model '{}'; it has {}",
            resolved.origin.models,
            args.model,
            names.join(", ")
        );
    };
    let ranks = config::resolve_group(&args.group, model)?;
    match ranks.first() {
        Some(first) if first.rank > 0 => follow::run(&resolved, ranks),
        _ => serve::serve(resolved, ranks),
    }
}

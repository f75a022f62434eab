//! `vlinders deploy`: the manifests of workers, made from models.yaml.

use std::process::ExitCode;

use vlinders_render::{Autoscaler, Folder, Platform, render};

use crate::args::{AutoscalerKind, DeployArgs, DeployCommand, RenderArgs};
use crate::config::resolve_workers;

/// Run what was asked for.
pub(crate) fn run(args: &DeployArgs) -> anyhow::Result<ExitCode> {
    let DeployCommand::Render(args) = &args.command;
    let folder = rendered(args)?;
    let out = args.out.display();
    if args.check {
        let differences = folder.differences(&args.out)?;
        if differences.is_empty() {
            println!("{out}: {} files, all as models.yaml says", folder.names().count());
            return Ok(ExitCode::SUCCESS);
        }
        for difference in &differences {
            println!("{difference}");
        }
        eprintln!("{out} is not what {} gives; refresh it: {}", args.models.display(), refresh(args));
        return Ok(ExitCode::FAILURE);
    }
    let outcome = folder.write(&args.out)?;
    for name in &outcome.written {
        println!("wrote {name}");
    }
    for name in &outcome.removed {
        println!("removed {name}");
    }
    println!("{out}: {} files written, {} unchanged", outcome.written.len(), outcome.unchanged);
    Ok(ExitCode::SUCCESS)
}

/// What the folder has to hold.
fn rendered(args: &RenderArgs) -> anyhow::Result<Folder> {
    let (workers, shutdown) = resolve_workers(&args.models, args.server.as_deref())?;
    let platform = Platform {
        image: args.image.clone(),
        gpu_image: args.gpu_image.clone(),
        autoscaler: match args.autoscaler {
            AutoscalerKind::Keda => Autoscaler::Keda,
            AutoscalerKind::None => Autoscaler::None,
        },
        shutdown,
    };
    Ok(render(&workers, &platform)?)
}

/// The command that makes it right.
fn refresh(args: &RenderArgs) -> String {
    let mut line = format!("vlinders deploy render --models {}", args.models.display());
    let mut option = |name: &str, value: &str, default: &str| {
        if value != default {
            line += &format!(" {name} {value}");
        }
    };
    let server = args.server.as_ref().map(|server| server.display().to_string()).unwrap_or_default();
    option("--server", &server, "");
    option("--out", &args.out.display().to_string(), "");
    option("--autoscaler", if args.autoscaler == AutoscalerKind::None { "none" } else { "keda" }, "keda");
    option("--image", &args.image, "vlinders");
    option("--gpu-image", &args.gpu_image, "vlinders-gpu");
    line
}

#[cfg(test)]
mod tests;

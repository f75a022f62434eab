//! `vlinders version`: what this binary is and what it was built for.

use std::process::ExitCode;

use crate::args::VersionArgs;

pub(crate) fn run(args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let model = vlinders_demo::MODEL_NAME;
    if args.json {
        let json = serde_json::json!({
            "version": version, "arch": arch, "os": os, "profile": profile, "builtin_model": model,
        });
        println!("{json:#}");
    } else {
        println!("vlinders {version} ({profile}, {arch}-{os})\nbuilt-in model: {model}");
    }
    Ok(ExitCode::SUCCESS)
}

//! A browser that looks at the dashboard: with made-up data behind it, and with a head and a worker.

use std::path::Path;
use std::process::Command;

use crate::tools;

/// Build example and binary, then run `tests/dashboard/run.sh` with each.
///
/// # Errors
/// A missing tool with its remedy, a failed build, or a failed test.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    tools::ensure(&[tools::PYTHON, tools::CHROMIUM])?;
    tools::build(root)?;
    let script = root.join("tests").join("dashboard").join("run.sh");
    let example = root.join("target").join("debug").join("examples").join("dashboard");
    for (kind, program) in [("--example", example), ("--head", tools::built_binary(root))] {
        crate::run(Command::new("bash").arg(&script).arg(kind).arg(program).current_dir(root))?;
    }
    Ok(())
}

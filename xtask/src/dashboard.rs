//! A browser that looks at the dashboard, with made-up data behind it.

use std::path::Path;
use std::process::Command;

use crate::tools;

/// Build the example, then run `tests/dashboard/run.sh` with it.
///
/// # Errors
/// A missing tool with its remedy, a failed build, or a failed test.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    tools::ensure(&[tools::PYTHON, tools::CHROMIUM])?;
    crate::run(crate::cargo(root).args([
        "build",
        "--package",
        "vlinders-dashboard",
        "--example",
        "dashboard",
    ]))?;
    let script = root.join("tests").join("dashboard").join("run.sh");
    let example = root.join("target").join("debug").join("examples").join("dashboard");
    crate::run(Command::new("bash").arg(script).arg("--example").arg(example).current_dir(root))
}

//! What deploys the platform: its scripts against real servers and a recording kubectl, its rules, and the whole on one machine.

use std::path::Path;
use std::process::Command;

use crate::tools;

/// Build the program, then run `tests/deploy/run.sh` with it.
///
/// # Errors
/// A missing tool with its remedy, a failed build, or a failed test.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    tools::ensure(&[
        tools::PYTHON,
        tools::POSTGRESQL,
        tools::REDIS,
        tools::OPENSSL,
        tools::KUBECTL,
        tools::CURL,
        tools::SHELLCHECK,
    ])?;
    tools::build(root)?;
    let script = root.join("tests").join("deploy").join("run.sh");
    crate::run(Command::new("bash").arg(script).arg(tools::built_binary(root)).current_dir(root))
}

//! The official Python and Node clients against a freshly built server.

use std::path::Path;
use std::process::Command;

use crate::tools;

/// Build the server, then run `tests/clients/run.sh` with it.
///
/// # Errors
/// A missing tool with its remedy, a failed build, or a failed test.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    tools::ensure(&[tools::PYTHON, tools::NODE, tools::NPM])?;
    tools::build(root)?;
    let script = root.join("tests").join("clients").join("run.sh");
    crate::run(Command::new("bash").arg(script).arg(tools::built_binary(root)).current_dir(root))
}

//! What the tests need beyond Rust: found, installed where that is possible, else named with the remedy.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::bail;

/// A program that tests call, with the Debian package that brings it.
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    /// Arguments of a call that succeeds when the tool is usable.
    pub(crate) probe: &'static [&'static str],
}

/// Python with virtual environments, for the Python client and to load nvcc.
pub(crate) const PYTHON: Tool =
    Tool { program: "python3", package: "python3-venv", probe: &["-c", "import venv, ensurepip"] };
/// What nvcc compiles the host's half of a file with.
pub(crate) const GXX: Tool = Tool { program: "g++", package: "g++", probe: &["--version"] };
/// Node 18 or newer, for the Node client.
pub(crate) const NODE: Tool = Tool {
    program: "node",
    package: "nodejs",
    probe: &["-e", "process.exit(+process.versions.node.split('.')[0] >= 18 ? 0 : 1)"],
};
/// Installs the Node client.
pub(crate) const NPM: Tool = Tool { program: "npm", package: "npm", probe: &["--version"] };
/// The server of the usage ledger's tests; Debian keeps it off the PATH, so a shell looks for it.
pub(crate) const POSTGRESQL: Tool =
    Tool { program: "sh", package: "postgresql", probe: &["-c", "ls /usr/lib/postgresql/*/bin/initdb"] };

/// Rate limits that several processes share; brings `redis-cli` too.
pub(crate) const REDIS: Tool =
    Tool { program: "redis-server", package: "redis-server", probe: &["--version"] };
/// Makes the keys that tests sign tokens with.
pub(crate) const OPENSSL: Tool = Tool { program: "openssl", package: "openssl", probe: &["version"] };

/// The browser that looks at the dashboard.
pub(crate) const CHROMIUM: Tool = Tool { program: "chromium", package: "chromium", probe: &["--version"] };

/// Renders deploy/ with the kustomize 5 that it brings. Debian 12's is too old for that.
pub(crate) const KUBECTL: Tool = Tool {
    program: "sh",
    package: "kubernetes-client",
    probe: &["-c", "kubectl version --client | grep -Eq '^Kustomize Version: v([5-9]|[1-9][0-9])'"],
};

/// What scripts that deploy ask servers with.
pub(crate) const CURL: Tool = Tool { program: "curl", package: "curl", probe: &["--version"] };
/// Reads scripts for what goes wrong in shells.
pub(crate) const SHELLCHECK: Tool =
    Tool { program: "shellcheck", package: "shellcheck", probe: &["--version"] };

/// A program of this name is on the PATH.
pub(crate) fn found(program: &str) -> bool {
    succeeds(Command::new("sh").args(["-c", &format!("command -v {program}")]))
}

/// Make sure that all of `tools` work: what is missing is installed by apt-get when we are root and it exists.
///
/// # Errors
/// Names every tool that is still missing, and what to do.
pub(crate) fn ensure(tools: &[Tool]) -> anyhow::Result<()> {
    let missing = |tool: &&Tool| !succeeds(Command::new(tool.program).args(tool.probe));
    let packages: Vec<_> = tools.iter().filter(missing).map(|tool| tool.package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    if can_install() {
        crate::run(Command::new("apt-get").args(["update", "-q"]))?;
        crate::run(
            Command::new("apt-get").args(["install", "-q", "-y", "--no-install-recommends"]).args(&packages),
        )?;
    }
    let still: Vec<_> = tools.iter().filter(missing).collect();
    if still.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = still.iter().map(|tool| tool.package).collect();
    bail!(
        "the tests need {0}, which cannot be installed from here.
  Debian, Ubuntu:  sudo apt-get install {0}
  kubectl has to be 1.27 or newer, which Debian has from 13 on: https://kubernetes.io/docs/tasks/tools/
  Those of clients, dashboard, GPU kernels and deployment can be left out:
  cargo xtask test --skip-clients --skip-browser --skip-cuda --skip-deploy",
        packages.join(" ")
    )
}

fn can_install() -> bool {
    found("apt-get") && Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Build binaries and examples, in the way that the tests are built: with another choice of packages, features would differ,
/// and most of what they depend on would be compiled once more.
///
/// # Errors
/// The build fails.
pub(crate) fn build(root: &Path) -> anyhow::Result<()> {
    crate::run(crate::cargo(root).args(["build", "--workspace", "--bins", "--tests", "--examples"]))
}

/// The binary that a plain `cargo build` makes.
pub(crate) fn built_binary(root: &Path) -> std::path::PathBuf {
    root.join("target").join("debug").join("vlinders")
}

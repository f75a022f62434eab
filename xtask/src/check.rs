//! `cargo xtask check`: runs each check, prints all findings, fails when there is one.

use std::path::Path;

use anyhow::bail;

use crate::{edges, rooms, sources, tools};

/// Run all checks.
///
/// # Errors
/// The number of findings, each printed before.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let sources = sources::read(root)?;
    let mut findings = edges::check(&edges::Metadata::read(root)?);
    findings.extend(rooms::check(&sources));
    for finding in &findings {
        eprintln!("check: {finding}");
    }
    if tools::found("cargo-deny") {
        // Advisories need a database from the network, so they are left to whoever has one.
        crate::run(crate::cargo(root).args(["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    } else {
        eprintln!("check: cargo-deny is not installed, licences and duplicates were not looked at");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("check: {} source files, no findings", sources.len());
    Ok(())
}

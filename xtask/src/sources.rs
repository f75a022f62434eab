//! Which files count as the project's Rust sources.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The crate's folder name: `engine` of `crates/engine/src/lib.rs`.
    pub(crate) fn room(&self) -> &str {
        self.path.strip_prefix("crates/").and_then(|rest| rest.split('/').next()).unwrap_or("xtask")
    }

    /// Lines with their numbers, comments cut off, so that a word in prose is no finding.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(idx, line)| (idx + 1, line.split("//").next().unwrap_or("")))
    }
}

/// All `.rs` files below `crates/` and `xtask/`.
///
/// # Errors
/// A folder or file that can not be read.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut folders = vec![root.join("crates"), root.join("xtask")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                sources.push(Source { path: relative(root, &path), text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/")
}

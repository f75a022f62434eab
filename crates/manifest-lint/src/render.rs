//! Rendering an overlay with the kustomize that kubectl brings.

use std::path::Path;
use std::process::{Command, Output};

use crate::input::Error;

/// What `kubectl kustomize` makes of this overlay.
///
/// # Errors
/// kubectl is missing or too old, or kustomize refuses the overlay.
pub fn render(overlay: &Path) -> Result<String, Error> {
    let version = run(Command::new("kubectl").args(["version", "--client"]))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if let Some(old) = too_old(&version) {
        return Err(Error::Kustomize { version: old });
    }
    let output = run(Command::new("kubectl").arg("kustomize").arg(overlay))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Render { overlay: overlay.to_owned(), reason });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(command: &mut Command) -> Result<Output, Error> {
    command.output().map_err(|error| Error::Kubectl { reason: error.to_string() })
}

/// The line of `kubectl version` that names a kustomize before 5; old ones name none.
fn too_old(version: &str) -> Option<String> {
    let line = version.lines().find(|line| line.starts_with("Kustomize Version: v"));
    let Some(line) = line else {
        return Some("a kubectl that names no version of kustomize".to_owned());
    };
    let major = line.trim_start_matches("Kustomize Version: v").split('.').next().unwrap_or_default();
    (major.parse::<u32>().unwrap_or(0) < 5).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kustomize_five_is_needed() {
        assert_eq!(too_old("Client Version: v1.32.4\nKustomize Version: v5.5.0\n"), None);
        assert_eq!(
            too_old("Client Version: v1.26.0\nKustomize Version: v4.5.7\n").as_deref(),
            Some("Kustomize Version: v4.5.7")
        );
        assert!(too_old("Client Version: version.Info{Major:\"1\", Minor:\"20\"}\n").is_some());
    }
}

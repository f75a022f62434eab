//! The folder deploy/: its overlays as they are rendered, and its tables.

use std::fs;
use std::path::{Path, PathBuf};

use vlinders_manifest_lint::{Flows, Secrets, render};

pub(crate) fn folder() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")).unwrap()
}

pub(crate) fn secrets() -> Secrets {
    Secrets::read(&folder().join("secrets.yaml")).unwrap()
}

pub(crate) fn flows() -> Flows {
    Flows::read(&folder().join("flows.yaml")).unwrap()
}

/// What kubectl makes of an overlay.
pub(crate) fn rendered(overlay: &Path) -> String {
    render(overlay).unwrap_or_else(|error| panic!("{error}"))
}

//! `.vlinders-pull.json`: what was fetched from where, so that the next run knows without asking or hashing.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::PullError;

/// Version of the form below.
const FORMAT: u32 = 1;

/// What is in a model's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub(crate) source: String,
    /// The exact version.
    pub(crate) revision: String,
    pub(crate) selection: String,
    pub(crate) files: Vec<RecordedFile>,
}

/// One file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedFile {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// What the source proved it by.
    pub(crate) verified_by: String,
    /// The source's own name of this content.
    pub(crate) id: String,
}

// === impl Record ===

impl Record {
    pub(crate) fn new(source: String, revision: String, selection: String, files: Vec<RecordedFile>) -> Self {
        Self { format: FORMAT, source, revision, selection, files }
    }

    /// The record of a folder whose files are being replaced: which there were, and that none is known to be what it was.
    pub(crate) fn in_motion(&self) -> Self {
        let files =
            self.files.iter().map(|file| RecordedFile { id: String::new(), ..file.clone() }).collect();
        Self::new(self.source.clone(), String::new(), self.selection.clone(), files)
    }

    /// `None` when there is none that we understand: then files are hashed to find out.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (record.format == FORMAT).then_some(record)
    }

    /// Replace the record at once.
    pub(crate) fn write(&self, path: &Path) -> Result<(), PullError> {
        let new = path.with_extension("json.new");
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        let mut file = File::create(&new).map_err(PullError::io("write", &new))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(PullError::io("write", &new))?;
        fs::rename(&new, path).map_err(PullError::io("write", path))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&RecordedFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

//! A folder of generated files: what is different on disk, and how it is made the same.
//!
//! Only files that begin with the header are ever changed or removed; whatever else lies there is somebody's own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::RenderError;

/// First line of every generated file.
pub(crate) const HEADER: &str = "# Generated from models.yaml by `vlinders deploy render`; do not edit.\n";

/// Generated files by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(BTreeMap<String, String>);

/// How a folder on disk differs from what would be generated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The file is not there.
    Missing(String),
    /// The file says something else.
    Stale(String),
    /// The file was generated for a model that there is no more.
    Surplus(String),
}

/// What writing a folder changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files that are new or changed.
    pub written: Vec<String>,
    /// Files of models that there are no more.
    pub removed: Vec<String>,
    /// Files that were right already.
    pub unchanged: usize,
}

// === impl Folder ===

impl Folder {
    pub(crate) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(crate) fn insert(&mut self, name: String, text: String) {
        self.0.insert(name, format!("{HEADER}{}\n", text.trim_end()));
    }

    /// Names of the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Text of one file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// How the files in `folder` differ, by name.
    ///
    /// # Errors
    /// The folder can not be read.
    pub fn differences(&self, folder: &Path) -> Result<Vec<Difference>, RenderError> {
        let mut found = Vec::new();
        for (name, text) in &self.0 {
            match read(&folder.join(name))? {
                None => found.push(Difference::Missing(name.clone())),
                Some(there) if there != *text => found.push(Difference::Stale(name.clone())),
                Some(_) => {}
            }
        }
        found.extend(self.surplus(folder)?.into_iter().map(Difference::Surplus));
        Ok(found)
    }

    /// Make `folder` hold these files. Each is replaced at once, so that nobody reads half of one.
    ///
    /// # Errors
    /// The folder can not be read or written, or somebody's own file stands in the way; then nothing was changed.
    pub fn write(&self, folder: &Path) -> Result<Outcome, RenderError> {
        let mut outcome = Outcome::default();
        let mut changed = Vec::new();
        for (name, text) in &self.0 {
            let path = folder.join(name);
            match read(&path)? {
                Some(there) if there == *text => outcome.unchanged += 1,
                Some(there) if !there.starts_with(HEADER) => return Err(RenderError::NotGenerated(path)),
                _ => changed.push((name, text)),
            }
        }
        outcome.removed = self.surplus(folder)?;
        fs::create_dir_all(folder).map_err(|source| io_error("make", folder, source))?;
        for (name, text) in changed {
            let (path, new) = (folder.join(name), folder.join(format!(".{name}.new")));
            fs::write(&new, text).map_err(|source| io_error("write", &new, source))?;
            fs::rename(&new, &path).map_err(|source| io_error("write", &path, source))?;
            outcome.written.push(name.clone());
        }
        for name in &outcome.removed {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
        }
        Ok(outcome)
    }

    /// Generated files that are not among these.
    fn surplus(&self, folder: &Path) -> Result<Vec<String>, RenderError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error("read", folder, source)),
        };
        let mut surplus = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| io_error("read", folder, source))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_ours = name.ends_with(".yaml") && entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_ours && !self.0.contains_key(&name) {
                let text = read(&entry.path())?.unwrap_or_default();
                surplus.extend(text.starts_with(HEADER).then_some(name));
            }
        }
        surplus.sort();
        Ok(surplus)
    }
}

// === impl Difference ===

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "missing: {name}"),
            Self::Stale(name) => write!(f, "stale: {name}"),
            Self::Surplus(name) => write!(f, "surplus: {name}"),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, RenderError> {
    match fs::read(path) {
        // Of what is no text, nothing was generated.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error("read", path, source)),
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> RenderError {
    RenderError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> Folder {
        let mut folder = Folder::new();
        files.iter().for_each(|(name, text)| folder.insert((*name).to_owned(), (*text).to_owned()));
        folder
    }

    #[test]
    fn what_differs_is_named_and_writing_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("models");
        let before = folder(&[("a.yaml", "a: 1"), ("b.yaml", "b: 1"), ("c.yaml", "c: 1")]);
        assert_eq!(before.differences(&out).unwrap().len(), 3);
        assert_eq!(before.write(&out).unwrap().written, ["a.yaml", "b.yaml", "c.yaml"]);
        assert!(before.differences(&out).unwrap().is_empty());

        let after = folder(&[("a.yaml", "a: 1"), ("b.yaml", "b: 2"), ("d.yaml", "d: 1")]);
        let told: Vec<_> = after.differences(&out).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(told, ["stale: b.yaml", "missing: d.yaml", "surplus: c.yaml"]);
        let outcome = after.write(&out).unwrap();
        assert_eq!(
            outcome,
            Outcome {
                written: vec!["b.yaml".into(), "d.yaml".into()],
                removed: vec!["c.yaml".into()],
                unchanged: 1
            }
        );
        assert!(after.differences(&out).unwrap().is_empty() && !out.join("c.yaml").exists());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "nothing else is left there");
    }

    #[test]
    fn what_somebody_wrote_is_neither_removed_nor_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("own.yaml"), "mine: 1\n").unwrap();
        fs::write(dir.path().join("README.md"), HEADER).unwrap();
        folder(&[("a.yaml", "a: 1")]).write(dir.path()).unwrap();
        assert!(dir.path().join("own.yaml").exists() && dir.path().join("README.md").exists());

        let error = folder(&[("b.yaml", "b: 1"), ("own.yaml", "a: 1")]).write(dir.path()).unwrap_err();
        assert!(error.to_string().contains("own.yaml was not generated"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("own.yaml")).unwrap(), "mine: 1\n");
        assert!(
            dir.path().join("a.yaml").exists() && !dir.path().join("b.yaml").exists(),
            "nothing was changed"
        );
    }
}

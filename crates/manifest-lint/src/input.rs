//! Where manifests come from: a stream of YAML documents, or a folder of files.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::object::Object;
use crate::set::Script;

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder can not be read.
    #[error("cannot read {path}: {source}; give a folder of manifests or a kustomize overlay", path = path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A document is no YAML.
    #[error("{file}, document {number}: {reason}; correct the file")]
    Yaml {
        /// The file, or the overlay that was rendered.
        file: String,
        /// Counted from 1.
        number: usize,
        /// What the parser says, with the line in the document.
        reason: String,
    },
    /// kubectl is not there.
    #[error(
        "kubectl cannot be started: {reason}; install it (Debian 13: apt-get install kubernetes-client; others: \
         https://kubernetes.io/docs/tasks/tools/)"
    )]
    Kubectl {
        /// What the system says.
        reason: String,
    },
    /// kubectl does not bring a kustomize that reads our overlays.
    #[error(
        "{version} is too old: the overlays need kustomize 5, which kubectl brings from 1.27 on; install a newer kubectl"
    )]
    Kustomize {
        /// What it says of itself.
        version: String,
    },
    /// kustomize refuses the overlay.
    #[error("kubectl kustomize {overlay} failed: {reason}", overlay = overlay.display())]
    Render {
        /// The overlay.
        overlay: PathBuf,
        /// What kustomize says.
        reason: String,
    },
}

/// Documents and scripts as they were read.
#[derive(Debug, Default)]
pub struct Input {
    pub(crate) objects: Vec<Object>,
    pub(crate) scripts: Vec<Script>,
}

// === impl Input ===

impl Input {
    /// The documents of `stream`; `file` is what findings call it.
    ///
    /// # Errors
    /// A document is no YAML.
    pub fn stream(file: &str, stream: &str) -> Result<Self, Error> {
        let mut objects = Vec::new();
        for (idx, document) in documents(stream).into_iter().enumerate() {
            let value: Value = yaml(&document).map_err(|reason| Error::Yaml {
                file: file.to_owned(),
                number: idx + 1,
                reason,
            })?;
            if !value.is_null() {
                objects.push(Object { file: file.to_owned(), value });
            }
        }
        Ok(Self { objects, scripts: Vec::new() })
    }

    /// All `.yaml` and `.sh` files of a folder, in the order of their names.
    ///
    /// # Errors
    /// The folder or a file can not be read, or is no YAML.
    pub fn folder(folder: &Path) -> Result<Self, Error> {
        let mut input = Self::default();
        for path in listed(folder)? {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.ends_with(".sh") {
                input.scripts.push(Script { file: name, text: read(&path)? });
            } else if name.ends_with(".yaml") {
                input.objects.extend(Self::stream(&name, &read(&path)?)?.objects);
            }
        }
        Ok(input)
    }

    /// Look at the scripts of this folder as well.
    ///
    /// # Errors
    /// The folder or a file can not be read.
    pub fn with_scripts(mut self, folder: &Path) -> Result<Self, Error> {
        for path in listed(folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "sh"))
        {
            self.scripts.push(Script { file: path.display().to_string(), text: read(&path)? });
        }
        Ok(self)
    }
}

/// Parse one document.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<_> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Cut at lines `---`; inside a document such a line is always indented.
fn documents(stream: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in stream.lines() {
        if line == "---" || line.starts_with("--- ") {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    documents.retain(|text| text.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')));
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_documents() {
        let stream = "# only words\n---\na: |\n  ---\n  x\n---\nb: 1\n";
        let input = Input::stream("f", stream).unwrap();
        let values: Vec<_> = input.objects.iter().map(|object| object.value.to_string()).collect();
        assert_eq!(values, [r#"{"a":"---\nx\n"}"#, r#"{"b":1}"#]);
    }

    #[test]
    fn what_is_no_yaml_names_its_document() {
        let error = Input::stream("f.yaml", "a: 1\n---\na: [\n").unwrap_err().to_string();
        assert!(error.starts_with("f.yaml, document 2: "), "{error}");
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert!(Input::stream("f", "a: 1\na: 2\n").is_err());
    }
}

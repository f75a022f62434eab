//! Where the files of a model are: a folder, one GGUF file, or the binary itself.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vlinders_layers::{Checkpoint, Gguf, Metadata};
use vlinders_models::GgufModel;

use crate::RunnerError;

/// The files of a model.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// A GGUF file that was opened.
    Gguf(Arc<GgufFiles>),
    /// Names and contents of files that are part of the binary.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// A GGUF file, and what it says of its model.
#[derive(Debug)]
pub struct GgufFiles {
    path: PathBuf,
    gguf: Gguf,
    model: GgufModel,
}

const CONFIG: &str = "config.json";

// === impl ModelFiles ===

impl ModelFiles {
    /// Open a GGUF file, or the first of several, and read what it says of its model.
    ///
    /// # Errors
    /// When it can not be read, is broken, or holds a model that is not supported.
    pub fn gguf(path: &Path) -> Result<Self, RunnerError> {
        let gguf = Gguf::open(path)?;
        let model = GgufModel::read(&gguf)?;
        Ok(Self::Gguf(Arc::new(GgufFiles { path: path.to_owned(), gguf, model })))
    }

    /// The contents of a file such as config.json, `None` when there is no such file.
    ///
    /// # Errors
    /// When it is there and can not be read.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, RunnerError> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
            // It holds one of them under other names; text is read from its metadata.
            Self::Gguf(files) => Ok((name == CONFIG).then(|| Cow::Owned(files.model.config.clone()))),
            Self::Folder(folder) => {
                let path = folder.join(name);
                match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(RunnerError::Io { file: path.display().to_string(), source }),
                }
            }
        }
    }

    /// As errors name it.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Gguf(files) => files.path.display().to_string(),
            Self::Embedded(_) => "the embedded model".to_owned(),
        }
    }

    pub(crate) fn config(&self) -> Result<Cow<'static, [u8]>, RunnerError> {
        if let Self::Folder(folder) = self
            && !folder.is_dir()
        {
            return Err(RunnerError::NotAFolder(self.place()));
        }
        let missing = || RunnerError::MissingFile { place: self.place(), file: CONFIG };
        self.read(CONFIG)?.ok_or_else(missing)
    }

    pub(crate) fn checkpoint(&self) -> Result<Checkpoint, RunnerError> {
        Ok(match self {
            Self::Folder(folder) => Checkpoint::open(folder)?,
            Self::Gguf(files) => Checkpoint::gguf(&files.gguf, files.model.layout)?,
            Self::Embedded(files) => Checkpoint::embedded(files)?,
        })
    }
}

// === impl GgufFiles ===

impl GgufFiles {
    /// Keys and values, among them the tokenizer.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.gguf.metadata()
    }

    /// Version of the format.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.gguf.version()
    }
}

//! Where the files of a model are: a folder, or the binary itself.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use vlinders_layers::Checkpoint;

use crate::RunnerError;

/// The files of a model.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// Names and contents of files that are part of the binary.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

// === impl ModelFiles ===

impl ModelFiles {
    /// The contents of a file such as config.json, `None` when there is no such file.
    ///
    /// # Errors
    /// When it is there and can not be read.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, RunnerError> {
        match self {
            Self::Embedded(files) => {
                Ok(files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
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
            Self::Embedded(_) => "the embedded model".to_owned(),
        }
    }

    pub(crate) fn config(&self) -> Result<Cow<'static, [u8]>, RunnerError> {
        if let Self::Folder(folder) = self
            && !folder.is_dir()
        {
            return Err(RunnerError::NotAFolder(self.place()));
        }
        let missing = || RunnerError::MissingFile { place: self.place(), file: "config.json" };
        self.read("config.json")?.ok_or_else(missing)
    }

    pub(crate) fn checkpoint(&self) -> Result<Checkpoint, RunnerError> {
        Ok(match self {
            Self::Folder(folder) => Checkpoint::open(folder)?,
            Self::Embedded(files) => Checkpoint::embedded(files)?,
        })
    }
}

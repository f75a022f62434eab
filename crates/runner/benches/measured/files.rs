//! The files of a model that a command line names.

use std::path::PathBuf;

use vlinders_runner::ModelFiles;

pub(crate) fn model_files(path: PathBuf) -> ModelFiles {
    if path.extension().is_some_and(|extension| extension == "gguf") {
        ModelFiles::gguf(&path).expect("a GGUF file that opens")
    } else {
        ModelFiles::Folder(path)
    }
}

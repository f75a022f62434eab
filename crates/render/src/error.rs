//! What can be wrong between a description of workers and a folder of files.

use std::io;
use std::path::PathBuf;

/// Why no manifests came out.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Objects of Kubernetes are named after the model.
    #[error(
        "model '{0}' has no letter or digit that an object of Kubernetes could be named after; rename it"
    )]
    NoSlug(String),
    /// Two models would have one set of objects.
    #[error(
        "models '{first}' and '{second}' would both be called `{slug}` in Kubernetes; rename one of them"
    )]
    SlugTaken {
        /// What both become.
        slug: String,
        /// The one that comes first.
        first: String,
        /// The other one.
        second: String,
    },
    /// The file of that name lists the others.
    #[error(
        "a model can not be called '{0}', since kustomization.yaml lists the files of all models; rename it"
    )]
    Reserved(String),
    /// Names of the objects of a group would be too long.
    #[error("the name of model '{0}', on several nodes, may have 40 letters and digits; shorten it")]
    TooLong(String),
    /// A line break or the like, which no query and no argument can hold.
    #[error("the name of model {0:?} holds a control character; rename it")]
    ControlCharacter(String),
    /// A file that somebody wrote stands where one would be generated.
    #[error("{0} was not generated, and would be overwritten; move it away, or choose another folder")]
    NotGenerated(PathBuf),
    /// The folder can not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: read, write, remove or make.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A template failed, which its fields can not make it do.
    #[error("a template failed: {0}")]
    Template(#[from] askama::Error),
}

//! Why a model could not be fetched, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The server wants to know who asks, or does not let them.
    #[error("{url} answered {status}: {remedy}")]
    Denied {
        /// What was asked, without parameters.
        url: String,
        /// HTTP status.
        status: u16,
        /// What to do.
        remedy: String,
    },
    /// There is no such thing.
    #[error("{url} answered 404: {remedy}")]
    Missing {
        /// What was asked, without parameters.
        url: String,
        /// What to do.
        remedy: String,
    },
    /// Another answer that is of no use.
    #[error("{url} answered {status}{message}; it was not asked again, since that would not change")]
    Status {
        /// What was asked, without parameters.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the server says about it, with a colon before it.
        message: String,
    },
    /// It failed too often.
    #[error(
        "{url}: {reason}, {attempts} times in a row; what was fetched is kept, so run it again when the server is well"
    )]
    GaveUp {
        /// What was asked, without parameters.
        url: String,
        /// The last failure.
        reason: String,
        /// Failures.
        attempts: u32,
    },
    /// The client can not be made.
    #[error("cannot prepare an HTTP client: {0}")]
    Client(#[source] reqwest::Error),
    /// A redirect that must not be followed.
    #[error("{url} sends us to {to}, {why}")]
    Redirect {
        /// What was asked, without parameters.
        url: String,
        /// Where it points to.
        to: String,
        /// Why that is not followed.
        why: &'static str,
    },
    /// Not what such a server sends.
    #[error("{url} sent something unexpected: {reason}")]
    Malformed {
        /// What was asked, without parameters.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A token would travel where everybody can read it.
    #[error("{0} is not encrypted, so no token is sent there; use https://, or leave the token out")]
    TokenInClear(String),
    /// A token that can not stand in a request.
    #[error(
        "the token of the hub holds characters that no token has; check the file or variable it comes from"
    )]
    BadToken,
    /// An endpoint and a bucket that make no address.
    #[error("bucket `{bucket}` has no address at {endpoint}: {reason}")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
        /// The endpoint.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// A listing names a file outside the model's folder.
    #[error("{source_name} lists the file {path:?}, which {why}; nothing was fetched from it")]
    UnsafePath {
        /// Where from.
        source_name: String,
        /// What is listed.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The source has none of the files that are wanted.
    #[error("{source_name} has no {wanted}; it has {there}")]
    Nothing {
        /// Where from.
        source_name: String,
        /// What is missing.
        wanted: String,
        /// What is there instead.
        there: String,
    },
    /// The source changed under our hands.
    #[error("{path} was changed at {source_name} while it was fetched; run it again to get the new version")]
    Changed {
        /// Where from.
        source_name: String,
        /// The file.
        path: String,
    },
    /// What came is not what the listing promises.
    #[error(
        "{path} from {source_name} is broken, also when fetched once more: expected {expected}, found {found}; the source or \
         something on the way damages it"
    )]
    Mismatch {
        /// Where from.
        source_name: String,
        /// The file.
        path: String,
        /// Size or digest of the listing.
        expected: String,
        /// What came.
        found: String,
    },
    /// The volume is too small.
    #[error(
        "{needed} are still to be fetched, and {folder} has room for {available}; enlarge the volume, or remove models"
    )]
    NoSpace {
        /// Bytes to fetch, for people.
        needed: String,
        /// Bytes that are free, for people.
        available: String,
        /// Where to.
        folder: PathBuf,
    },
    /// The volume is full.
    #[error(
        "no room is left for {0}; enlarge the volume, or remove models. What was fetched is kept: run it again then"
    )]
    DiskFull(PathBuf),
    /// The folder can not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PullError {
    /// What the system said about a file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                Self::DiskFull(path)
            } else {
                Self::Io { action, path, source }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_volume_is_told_as_one() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = PullError::io("write", Path::new("/models/a"))(kind.into());
            assert!(
                error.to_string().contains("no room is left for /models/a; enlarge the volume"),
                "{error}"
            );
        }
        let other = PullError::io("write", Path::new("/models/a"))(io::ErrorKind::PermissionDenied.into());
        assert!(other.to_string().starts_with("cannot write /models/a"), "{other}");
    }
}

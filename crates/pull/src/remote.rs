//! What a source has to offer: files with their sizes and proofs, and how each is asked for.

use futures::StreamExt as _;
use reqwest::Url;

use crate::bucket::Bucket;
use crate::digest::{Proof, sha256};
use crate::folder::Folder;
use crate::http::{Ask, Http};
use crate::hub::Hub;
use crate::path::RelativePath;
use crate::selection::Selection;
use crate::{Progress, PullError, PullOptions, Source};

/// Questions about single files that are asked at the same time.
const QUESTIONS: usize = 8;

/// A source that can be asked.
#[derive(Debug)]
pub(crate) enum Remote {
    Hub(Hub),
    Bucket(Bucket),
    Folder(Folder),
}

/// What a source has.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The exact version: a commit, or a digest of the listing.
    pub(crate) revision: String,
    /// Files that were selected.
    pub(crate) files: Vec<RemoteFile>,
    /// Names of some that were not, for messages.
    pub(crate) others: Vec<String>,
}

/// One file of a source.
#[derive(Debug, Clone)]
pub(crate) struct RemoteFile {
    pub(crate) path: RelativePath,
    pub(crate) size: Option<u64>,
    pub(crate) proof: Proof,
    /// What the server calls this version of it; asked for with If-Match.
    pub(crate) etag: Option<String>,
}

// === impl Remote ===

impl Remote {
    pub(crate) fn new(source: &Source, options: &PullOptions) -> Result<Self, PullError> {
        Ok(match source {
            Source::Hub { repository, revision } => {
                Self::Hub(Hub::new(&options.hub, repository, revision.as_deref())?)
            }
            Source::Bucket { bucket, prefix } => Self::Bucket(Bucket::new(&options.bucket, bucket, prefix)?),
            Source::Folder(url) => Self::Folder(Folder::new(url)),
        })
    }

    /// What there is, and of the selected files what proves them.
    pub(crate) async fn list(
        &self,
        http: &Http,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<Listing, PullError> {
        match self {
            Self::Hub(hub) => hub.list(http, selection, progress).await,
            Self::Bucket(bucket) => bucket.list(http, selection, progress).await,
            Self::Folder(folder) => folder.list(http, selection, progress).await,
        }
    }

    /// The request for a file of the listing.
    pub(crate) fn ask(&self, revision: &str, file: &RemoteFile) -> Ask {
        match self {
            Self::Hub(hub) => hub.ask(revision, &file.path),
            Self::Bucket(bucket) => bucket.ask(&file.path),
            Self::Folder(folder) => folder.ask(&file.path),
        }
    }
}

// === impl Listing ===

impl Listing {
    /// Divide what there is into what is wanted and the rest.
    ///
    /// # Errors
    /// A name leads out of the model's folder: such a source is not to be trusted in anything.
    pub(crate) fn new(
        source: &str,
        revision: String,
        files: Vec<(String, Option<u64>, Proof, Option<String>)>,
        selection: &Selection,
    ) -> Result<Self, PullError> {
        let mut listing = Self { revision, files: Vec::new(), others: Vec::new() };
        for (path, size, proof, etag) in files {
            let path = RelativePath::new(&path).map_err(|why| {
                let source_name = source.to_owned();
                PullError::UnsafePath { source_name, path: path.clone(), why }
            })?;
            if selection.takes(&path) {
                listing.files.push(RemoteFile { path, size, proof, etag });
            } else {
                listing.others.push(path.as_str().to_owned());
            }
        }
        listing.files.sort_by(|a, b| a.path.cmp(&b.path));
        listing.files.dedup_by(|a, b| a.path == b.path);
        Ok(listing)
    }

    /// Ask something about each file, several at a time.
    pub(crate) async fn ask_each<F: Future<Output = RemoteFile>>(&mut self, ask: impl Fn(RemoteFile) -> F) {
        let files = std::mem::take(&mut self.files);
        self.files = futures::stream::iter(files.into_iter().map(ask)).buffered(QUESTIONS).collect().await;
    }
}

// === impl RemoteFile ===

impl RemoteFile {
    /// A short name of exactly this content, as far as the source tells.
    pub(crate) fn id(&self) -> String {
        let content = match &self.proof {
            Proof::Sha256(digest) | Proof::GitBlob(digest) => digest.clone(),
            Proof::Size => format!("{:?} {:?}", self.size, self.etag),
        };
        let mut id = sha256(&format!("{}\n{}\n{content}", self.path.as_str(), self.proof.name()));
        id.truncate(16);
        id
    }
}

/// The address of a file below a folder.
pub(crate) fn below(folder: &Url, path: &RelativePath) -> Url {
    let mut url = folder.clone();
    if let Ok(mut parts) = url.path_segments_mut() {
        parts.pop_if_empty().extend(path.as_str().split('/'));
    }
    url
}

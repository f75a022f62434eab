//! A folder of a web server, with a SHA256SUMS that says what is in it.

use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, Url};

use crate::digest::{Proof, sha256};
use crate::http::{Ask, Http, Remedies, shown};
use crate::path::RelativePath;
use crate::remote::{Listing, RemoteFile, below};
use crate::selection::Selection;
use crate::sums::{self, SUMS};
use crate::{Progress, PullError};

const REMEDIES: Remedies = Remedies {
    denied: "this server wants to know who asks, and no credentials are sent to plain web servers; make the folder readable \
             for this machine, or use s3://",
    missing: "check `source`; the folder needs a file SHA256SUMS, made by `sha256sum * > SHA256SUMS`, and each file it lists",
};

/// A folder of a web server.
#[derive(Debug)]
pub(crate) struct Folder(Url);

// === impl Folder ===

impl Folder {
    pub(crate) fn new(url: &Url) -> Self {
        Self(url.clone())
    }

    pub(crate) async fn list(
        &self,
        http: &Http,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<Listing, PullError> {
        let ask = Ask::new(self.0.join(SUMS).unwrap_or_else(|_| self.0.clone()), REMEDIES);
        let (_, text) = http.text(&ask, progress).await?;
        let sums =
            sums::parse(&text).map_err(|reason| PullError::Malformed { url: shown(&ask.url), reason })?;
        let files =
            sums.into_iter().map(|(path, digest)| (path, None, Proof::Sha256(digest), None)).collect();
        let mut listing = Listing::new(self.0.as_str(), sha256(&text), files, selection)?;
        listing.ask_each(|file| self.with_size(http, file)).await;
        Ok(listing)
    }

    pub(crate) fn ask(&self, path: &RelativePath) -> Ask {
        Ask::new(below(&self.0, path), REMEDIES)
    }

    /// Its size, where the server tells it, to know beforehand whether there is room.
    async fn with_size(&self, http: &Http, mut file: RemoteFile) -> RemoteFile {
        let ask = Ask { method: Method::HEAD, ..self.ask(&file.path) };
        if let Ok(response) = http.send(&ask).await {
            let length = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
            // A nought is what some servers say instead of nothing.
            file.size = length.and_then(|length| length.parse().ok()).filter(|size| *size > 0);
        }
        file
    }
}

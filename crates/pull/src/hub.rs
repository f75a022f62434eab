//! The Hugging Face hub, by its documented HTTP interface.
//!
//! The crate `hf-hub` is not used: it brings a second TLS library and a cache of its own, and keeps to itself what we need to know
//! of each answer.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::digest::{Proof, is_hex};
use crate::http::{Ask, Http, Remedies, shown};
use crate::path::RelativePath;
use crate::remote::{Listing, below};
use crate::selection::Selection;
use crate::{Event, HubOptions, Progress, PullError};

const REMEDIES: Remedies = Remedies {
    denied: "give a token that may read this repository (--hf-token-file or HF_TOKEN), and accept the licence of the model on \
             its page",
    missing: "the hub has no such repository, revision or file, or does not show it to whoever gives no token; check \
              `source`",
};

/// One repository of a hub.
#[derive(Debug)]
pub(crate) struct Hub {
    endpoint: Url,
    repository: String,
    revision: Option<String>,
    authorization: Option<HeaderValue>,
}

/// What a revision is.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// An entry of the tree.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    /// Git's name of a file that is not in LFS.
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// SHA-256.
    oid: String,
    size: u64,
}

// === impl Hub ===

impl Hub {
    pub(crate) fn new(
        options: &HubOptions,
        repository: &str,
        revision: Option<&str>,
    ) -> Result<Self, PullError> {
        let mut endpoint = options.endpoint.clone();
        if !endpoint.path().ends_with('/') {
            endpoint.set_path(&format!("{}/", endpoint.path()));
        }
        let authorization = match &options.token {
            Some(_) if !keeps_secrets(&endpoint) => return Err(PullError::TokenInClear(shown(&endpoint))),
            Some(token) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", token.text()));
                let mut value = value.map_err(|_| PullError::BadToken)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let revision = revision.map(str::to_owned);
        Ok(Self { endpoint, repository: repository.to_owned(), revision, authorization })
    }

    pub(crate) async fn list(
        &self,
        http: &Http,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<Listing, PullError> {
        let commit = self.commit(http, progress).await?;
        let mut url = self.api(&["tree", &commit]);
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        let mut next = Some(url);
        while let Some(url) = next {
            let (headers, entries): (_, Vec<Entry>) = self.json(http, url, progress).await?;
            files.extend(entries.into_iter().filter(|entry| entry.kind == "file").map(|entry| {
                let (size, proof) = match entry.lfs {
                    Some(lfs) => {
                        let digest = lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid).to_ascii_lowercase();
                        (lfs.size, Proof::Sha256(digest))
                    }
                    None if is_hex(&entry.oid, 40) => (entry.size, Proof::GitBlob(entry.oid)),
                    None => (entry.size, Proof::Size),
                };
                (entry.path, Some(size), proof, None)
            }));
            next = self.next_page(&headers)?;
        }
        Listing::new(&self.name(), commit, files, selection)
    }

    pub(crate) fn ask(&self, commit: &str, path: &RelativePath) -> Ask {
        let mut folder = self.endpoint.clone();
        if let Ok(mut parts) = folder.path_segments_mut() {
            parts.pop_if_empty().extend(self.repository.split('/')).extend(["resolve", commit]);
        }
        self.authorized(below(&folder, path))
    }

    fn name(&self) -> String {
        format!("hf://{}", self.repository)
    }

    /// What the revision means now, so that all files are of one version.
    async fn commit(&self, http: &Http, progress: &dyn Progress) -> Result<String, PullError> {
        let revision = self.revision.as_deref().unwrap_or("main");
        if is_hex(revision, 40) {
            return Ok(revision.to_owned());
        }
        let url = self.api(&["revision", revision]);
        let (_, Revision { sha }) = self.json(http, url.clone(), progress).await?;
        if !is_hex(&sha, 40) {
            return Err(PullError::Malformed { url: shown(&url), reason: format!("the commit `{sha}`") });
        }
        progress.event(Event::Unpinned { revision: &sha });
        Ok(sha)
    }

    fn api(&self, more: &[&str]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "models"]).extend(self.repository.split('/')).extend(more);
        }
        url
    }

    fn authorized(&self, url: Url) -> Ask {
        Ask { authorization: self.authorization.clone(), ..Ask::new(url, REMEDIES) }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        http: &Http,
        url: Url,
        progress: &dyn Progress,
    ) -> Result<(HeaderMap, T), PullError> {
        let ask = self.authorized(url);
        let (headers, text) = http.text(&ask, progress).await?;
        let value = serde_json::from_str(&text)
            .map_err(|error| PullError::Malformed { url: shown(&ask.url), reason: error.to_string() })?;
        Ok((headers, value))
    }

    /// `Link: <URL>; rel="next"`
    fn next_page(&self, headers: &HeaderMap) -> Result<Option<Url>, PullError> {
        let links = headers.get(LINK).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let next = links.split(',').find(|link| link.contains("rel=\"next\""));
        let Some(text) = next.and_then(|link| link.split_once('<')?.1.split_once('>')) else {
            return Ok(None);
        };
        let url = self.endpoint.join(text.0).ok();
        // It gets our token.
        let ours = url.filter(|url| url.origin() == self.endpoint.origin());
        let reason = || format!("a next page at {}", text.0);
        ours.map(Some).ok_or_else(|| PullError::Malformed { url: shown(&self.endpoint), reason: reason() })
    }
}

/// Whether nobody on the way can read what is sent there.
fn keeps_secrets(url: &Url) -> bool {
    let is_this_machine = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    url.scheme() == "https" || is_this_machine
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn a_token_is_not_sent_in_clear_to_another_machine() {
        let hub = |endpoint: &str| {
            let options = HubOptions { endpoint: endpoint.parse().unwrap(), token: Some(Secret::new("t")) };
            Hub::new(&options, "a/b", None)
        };
        for endpoint in ["https://hub.example", "http://127.0.0.1:80", "http://[::1]", "http://localhost"] {
            assert!(hub(endpoint).is_ok(), "{endpoint}");
        }
        for endpoint in ["http://hub.example", "http://127.0.0.1.example", "http://10.0.0.1"] {
            assert!(matches!(hub(endpoint), Err(PullError::TokenInClear(_))), "{endpoint}");
        }
    }

    #[test]
    fn a_token_that_can_not_be_sent_is_not_left_out() {
        let token = Some(Secret::new("two\nlines"));
        let options = HubOptions { endpoint: "https://hub.example".parse().unwrap(), token };
        assert!(matches!(Hub::new(&options, "a/b", None), Err(PullError::BadToken)));
    }

    #[test]
    fn addresses_keep_what_an_endpoint_has_before() {
        let options = HubOptions { endpoint: "https://mirror.example/hf".parse().unwrap(), token: None };
        let hub = Hub::new(&options, "a/b", Some("refs/pr/1")).unwrap();
        assert_eq!(
            hub.api(&["revision", "refs/pr/1"]).as_str(),
            "https://mirror.example/hf/api/models/a/b/revision/refs%2Fpr%2F1"
        );
        let path = RelativePath::new("sub/a b.json").unwrap();
        assert_eq!(
            hub.ask("c0", &path).url.as_str(),
            "https://mirror.example/hf/a/b/resolve/c0/sub/a%20b.json"
        );
    }
}

//! Where a model comes from, as one line of text.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use crate::digest::is_hex;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `hf://OWNER/NAME@REVISION`: a repository of the Hugging Face hub.
    Hub {
        /// `OWNER/NAME`.
        repository: String,
        /// A commit, a tag or a branch; `None` is the branch `main`.
        revision: Option<String>,
    },
    /// `s3://BUCKET/PREFIX`: objects whose keys begin alike.
    Bucket {
        /// Name of the bucket.
        bucket: String,
        /// Ends with a slash, unless it is empty.
        prefix: String,
    },
    /// `https://HOST/FOLDER/`: files that a SHA256SUMS beside them lists.
    Folder(Url),
}

/// What is wrong with the text of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}; {remedy}")]
pub struct SourceError {
    /// What was found.
    pub found: String,
    /// What to write.
    pub remedy: &'static str,
}

const FORMS: &str = "write hf://OWNER/NAME@REVISION, s3://BUCKET/PREFIX or https://HOST/FOLDER/";

// === impl Source ===

impl Source {
    /// Whether it can only ever mean the same files: a commit of the hub.
    pub(crate) fn pinned(&self) -> Option<&str> {
        match self {
            Self::Hub { revision: Some(revision), .. } if is_hex(revision, 40) => Some(revision),
            _ => None,
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let wrong = |found: &str, remedy| SourceError { found: format!("`{text}` {found}"), remedy };
        match text.split_once("://") {
            Some(("hf", rest)) => {
                let (repository, revision) = match rest.split_once('@') {
                    Some((repository, revision)) => (repository, Some(revision)),
                    None => (rest, None),
                };
                let parts: Vec<_> = repository.split('/').collect();
                if parts.len() > 2 || !parts.iter().all(|part| is_name(part)) {
                    return Err(wrong("names no repository of the hub", "write hf://OWNER/NAME@REVISION"));
                }
                if revision.is_some_and(|revision| !revision.split('/').all(is_name)) {
                    return Err(wrong("names no revision", "write a commit, a tag or a branch behind the @"));
                }
                let revision = revision.map(str::to_owned);
                Ok(Self::Hub { repository: repository.to_owned(), revision })
            }
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if !is_name(bucket) {
                    return Err(wrong("names no bucket", "write s3://BUCKET/PREFIX"));
                }
                let prefix = prefix.trim_matches('/');
                if !prefix.is_empty() && prefix.split('/').any(|part| ["", ".", ".."].contains(&part)) {
                    return Err(wrong(
                        "has an empty part or dots between slashes",
                        "write s3://BUCKET/PREFIX",
                    ));
                }
                let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
                Ok(Self::Bucket { bucket: bucket.to_owned(), prefix })
            }
            Some(("http" | "https", _)) => {
                let mut url =
                    Url::parse(text).map_err(|error| wrong(&format!("is no address: {error}"), FORMS))?;
                if !url.username().is_empty() || url.password().is_some() {
                    let remedy = "leave user and password out of it; this file is no place for secrets";
                    // The text is not shown: it holds one.
                    return Err(SourceError { found: "an address with a password in it".to_owned(), remedy });
                }
                if url.query().is_some() || url.fragment().is_some() {
                    return Err(wrong("is no folder", "write the address of a folder, without ? and #"));
                }
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                Ok(Self::Folder(url))
            }
            _ => Err(wrong("is no source of a model", FORMS)),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, revision: None } => write!(f, "hf://{repository}"),
            Self::Hub { repository, revision: Some(revision) } => write!(f, "hf://{repository}@{revision}"),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(url) => url.fmt(f),
        }
    }
}

/// What may stand in a path without a second thought.
fn is_name(part: &str) -> bool {
    !part.starts_with('.')
        && !part.is_empty()
        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Source {
        text.parse().unwrap()
    }

    #[test]
    fn three_kinds() {
        let hub = |revision: Option<&str>| Source::Hub {
            repository: "meta-llama/Llama-3.1-8B".to_owned(),
            revision: revision.map(str::to_owned),
        };
        assert_eq!(read("hf://meta-llama/Llama-3.1-8B"), hub(None));
        assert_eq!(read("hf://meta-llama/Llama-3.1-8B@refs/pr/1"), hub(Some("refs/pr/1")));
        assert_eq!(read("s3://models/a/b").to_string(), "s3://models/a/b/");
        assert_eq!(read("s3://models"), Source::Bucket { bucket: "models".into(), prefix: String::new() });
        assert_eq!(read("https://h:8443/a").to_string(), "https://h:8443/a/");
        let commit = "0e9e39f249a16976918f6564b8830bc894c89659";
        assert_eq!(hub(Some(commit)).pinned(), Some(commit));
        assert_eq!(hub(Some("main")).pinned(), None);
    }

    #[test]
    fn everything_else_is_an_error_that_shows_no_secret() {
        for text in [
            "",
            "llama",
            "/models/a",
            "ftp://h/a",
            "hf://",
            "hf://a/b/c",
            "hf://a/..",
            "hf://a/b@",
            "hf://a/b@../c",
            "hf://a/b?x@y",
            "s3://",
            "s3:///a",
            "s3://b/../c",
            "s3://b/a//c",
            "https://",
            "https://h/a?b",
            "https://h/#a",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
        let error = "https://me:hunter2@h/a".parse::<Source>().unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
    }
}

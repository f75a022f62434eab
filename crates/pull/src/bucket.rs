//! S3, and whatever speaks its language: signed requests, listings, and which proof of a file there is.
//!
//! The best proof first: a SHA256SUMS among the objects, the SHA-256 that an object was uploaded with, its size and version.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH};
use reqwest::{Method, Url};
use rusty_s3::actions::{GetObject, HeadObject, ListObjectsV2};
use rusty_s3::{Bucket as Place, Credentials, S3Action, UrlStyle};
use std::time::Duration;

use crate::digest::{Proof, hex, sha256};
use crate::http::{Ask, Http, Remedies, shown};
use crate::path::RelativePath;
use crate::remote::{Listing, RemoteFile};
use crate::selection::Selection;
use crate::sums::{self, SUMS};
use crate::{BucketOptions, Progress, PullError};

const REMEDIES: Remedies = Remedies {
    denied: "check the access key (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --secrets), what it may read \
             (s3:ListBucket, s3:GetObject), the region and the clock of this machine",
    missing: "there is no such bucket or object; check `source`, --s3-endpoint and --s3-region",
};
/// How long a signature holds: requests are signed right before they are sent.
const HOLDS: Duration = Duration::from_secs(600);
const CHECKSUM_MODE: &str = "x-amz-checksum-mode";
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// Objects of a bucket whose keys begin alike.
#[derive(Debug)]
pub(crate) struct Bucket {
    place: Place,
    prefix: String,
    credentials: Option<Credentials>,
}

// === impl Bucket ===

impl Bucket {
    pub(crate) fn new(options: &BucketOptions, bucket: &str, prefix: &str) -> Result<Self, PullError> {
        let aws = format!("https://s3.{}.amazonaws.com", options.region);
        let refused = |endpoint: &str, reason: String| {
            let (bucket, endpoint) = (bucket.to_owned(), endpoint.to_owned());
            PullError::NoBucket { bucket, endpoint, reason }
        };
        let endpoint = match &options.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => Url::parse(&aws).map_err(|error| refused(&aws, error.to_string()))?,
        };
        // No certificate is made for names with a dot.
        let in_path = options.path_style.unwrap_or(options.endpoint.is_some() || bucket.contains('.'));
        let style = if in_path { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let place = Place::new(endpoint.clone(), style, bucket.to_owned(), options.region.clone())
            .map_err(|error| refused(endpoint.as_str(), error.to_string()))?;
        let credentials = options.credentials.as_ref().map(|ours| match &ours.token {
            Some(token) => Credentials::new_with_token(&ours.key_id, ours.secret.text(), token.text()),
            None => Credentials::new(&ours.key_id, ours.secret.text()),
        });
        Ok(Self { place, prefix: prefix.to_owned(), credentials })
    }

    pub(crate) async fn list(
        &self,
        http: &Http,
        selection: &Selection,
        progress: &dyn Progress,
    ) -> Result<Listing, PullError> {
        let objects = self.objects(http, progress).await?;
        let revision = sha256(&format!("{objects:?}"));
        let mut files: Vec<_> =
            objects.into_iter().map(|(path, size, etag)| (path, size, Proof::Size, etag)).collect();
        if files.iter().any(|(path, ..)| path == SUMS) {
            let ask = self.get(&format!("{}{SUMS}", self.prefix));
            let (_, text) = http.text(&ask, progress).await?;
            let sums =
                sums::parse(&text).map_err(|reason| PullError::Malformed { url: shown(&ask.url), reason })?;
            for (path, _, proof, _) in &mut files {
                if let Some((_, digest)) = sums.iter().find(|(name, _)| name == path) {
                    *proof = Proof::Sha256(digest.clone());
                }
            }
        }
        let mut listing = Listing::new(&self.name(), revision, files, selection)?;
        listing.ask_each(|file| self.with_checksum(http, file)).await;
        Ok(listing)
    }

    pub(crate) fn ask(&self, path: &RelativePath) -> Ask {
        self.get(&format!("{}{}", self.prefix, path.as_str()))
    }

    fn name(&self) -> String {
        format!("s3://{}/{}", self.place.name(), self.prefix)
    }

    fn get(&self, key: &str) -> Ask {
        Ask::new(GetObject::new(&self.place, self.credentials.as_ref(), key).sign(HOLDS), REMEDIES)
    }

    /// Path below the prefix, size and version of each object.
    async fn objects(
        &self,
        http: &Http,
        progress: &dyn Progress,
    ) -> Result<Vec<(String, Option<u64>, Option<String>)>, PullError> {
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut action = ListObjectsV2::new(&self.place, self.credentials.as_ref());
            action.with_prefix(self.prefix.as_str());
            if let Some(token) = token.take() {
                action.with_continuation_token(token);
            }
            let ask = Ask::new(action.sign(HOLDS), REMEDIES);
            let (_, text) = http.text(&ask, progress).await?;
            let page = ListObjectsV2::parse_response(&text)
                .map_err(|error| PullError::Malformed { url: shown(&ask.url), reason: error.to_string() })?;
            for object in page.contents {
                let path = object.key.strip_prefix(&self.prefix).unwrap_or(&object.key);
                // Some programs make an object for each folder.
                if !path.is_empty() && !path.ends_with('/') {
                    objects.push((path.to_owned(), object.size, object.etag));
                }
            }
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(objects);
            }
        }
    }

    /// The checksum that a file was uploaded with, if nothing better is known and it has one of the whole object.
    async fn with_checksum(&self, http: &Http, mut file: RemoteFile) -> RemoteFile {
        if file.proof != Proof::Size {
            return file;
        }
        let key = format!("{}{}", self.prefix, file.path.as_str());
        let mut action = HeadObject::new(&self.place, self.credentials.as_ref(), &key);
        action.headers_mut().insert(CHECKSUM_MODE, "ENABLED");
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static(CHECKSUM_MODE),
            HeaderValue::from_static("ENABLED"),
        )]);
        let ask = Ask { method: Method::HEAD, headers, ..Ask::new(action.sign(HOLDS), REMEDIES) };
        if let Ok(response) = http.send(&ask).await {
            let checksum = response.headers().get(CHECKSUM).and_then(|value| value.to_str().ok());
            // Of an object in parts it is one of checksums, with a dash and the number of parts.
            let digest =
                checksum.and_then(|text| BASE64_STANDARD.decode(text).ok()).filter(|bytes| bytes.len() == 32);
            if let Some(digest) = digest {
                file.proof = Proof::Sha256(hex(&digest));
            }
        }
        file
    }
}

/// Ask for this version of an object and no other.
pub(crate) fn only_this_version(ask: &mut Ask, etag: Option<&str>) {
    if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        ask.headers.insert(IF_MATCH, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(endpoint: Option<&str>, path_style: Option<bool>, bucket: &str) -> String {
        let options = BucketOptions {
            endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
            region: "eu-west-1".to_owned(),
            path_style,
            credentials: None,
        };
        let bucket = Bucket::new(&options, bucket, "a/").unwrap();
        bucket.ask(&RelativePath::new("b c.json").unwrap()).url.to_string()
    }

    #[test]
    fn where_objects_are() {
        assert_eq!(url(None, None, "models"), "https://models.s3.eu-west-1.amazonaws.com/a/b%20c.json");
        assert_eq!(url(None, None, "my.models"), "https://s3.eu-west-1.amazonaws.com/my.models/a/b%20c.json");
        assert_eq!(url(Some("http://minio:9000"), None, "models"), "http://minio:9000/models/a/b%20c.json");
        assert_eq!(
            url(Some("https://s3.example"), Some(false), "models"),
            "https://models.s3.example/a/b%20c.json"
        );
    }
}

//! An S3 that checks every signature, lists in pages, and knows checksums of some objects.

use axum::http::header;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::Digest as _;
use vlinders_pull::{Credentials, PullError, Secret};

use crate::server::{Fault, Seen, Server, Site, etag};
use crate::signature;
use crate::support::{Place, assert_whole, needed, sums};

const KEY_ID: &str = "AKIAEXAMPLE";
const SECRET: &str = "not+a/real=one";
const WEIGHTS: &str = "/models/demo v1/model.safetensors";

/// Who may read; without an id, everybody.
pub(crate) struct Keys {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
}

impl Keys {
    /// # Errors
    /// Why a request is not let in.
    pub(crate) fn check(&self, seen: &Seen) -> Result<(), String> {
        if self.id.is_empty() {
            return Ok(());
        }
        if !seen.query.contains(&format!("X-Amz-Credential={}%2F", self.id)) {
            return Err("unknown key".to_owned());
        }
        let raw_path = seen.path.replace(' ', "%20");
        let expected = signature::expected(seen, &raw_path, self.secret)?;
        let found = seen.query.split('&').find_map(|part| part.strip_prefix("X-Amz-Signature="));
        if found == Some(&expected) { Ok(()) } else { Err("the signature is another one".to_owned()) }
    }
}

/// ListObjectsV2 of `/models`, three keys a page.
pub(crate) fn listing(site: &Site, seen: &Seen) -> String {
    let parameter = |name: &str| {
        let found = seen.query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.map(crate::server::percent_decoded)
    };
    let prefix = parameter("prefix").unwrap_or_default();
    let after = parameter("continuation-token").unwrap_or_default();
    let keys =
        site.files.iter().filter_map(|(path, content)| Some((path.strip_prefix("/models/")?, content)));
    let keys: Vec<_> = keys.filter(|(key, _)| key.starts_with(&prefix) && **key > *after).collect();
    let contents = keys.iter().take(3).map(|(key, content)| {
        let (key, etag) = (key.replace(' ', "%20"), etag(content).replace('"', "&quot;"));
        let size = content.len();
        format!("<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{etag}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>")
    });
    let contents: String = contents.collect();
    let next = keys.get(2).filter(|_| keys.len() > 3);
    let more = next.map(|(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>models</Name><Prefix></Prefix><MaxKeys>3</MaxKeys><EncodingType>url</EncodingType><IsTruncated>{}</IsTruncated>{contents}{}</ListBucketResult>",
        next.is_some(),
        more.unwrap_or_default(),
    )
}

async fn demo() -> (Server, Place) {
    let server = Server::start().await;
    for (name, content) in vlinders_demo::FILES {
        server.put(&format!("/models/demo v1/{name}"), *content);
    }
    server.put("/models/demo v1/sub/", "");
    server.put("/models/demo v10/config.json", "of another model");
    server.site().bucket = Some(Keys { id: KEY_ID, secret: SECRET });
    let mut place = Place::new();
    place.options.bucket.endpoint = Some(server.url.parse().unwrap());
    place.options.bucket.credentials =
        Some(Credentials { key_id: KEY_ID.to_owned(), secret: Secret::new(SECRET), token: None });
    (server, place)
}

const SOURCE: &str = "s3://models/demo v1";

#[tokio::test]
async fn signed_requests_get_all_pages_and_a_checksum_where_there_is_one() {
    let (server, place) = demo().await;
    let weights = vlinders_demo::file("model.safetensors").unwrap();
    let checksum = BASE64_STANDARD.encode(sha2::Sha256::digest(weights));
    server.site().headers.push((WEIGHTS.to_owned(), "x-amz-checksum-sha256", checksum));
    place.pull(SOURCE).await.unwrap();
    assert_whole(&place);
    let record = place.record();
    let by = |name: &str| {
        let files = record["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == name).unwrap()["verified_by"].as_str().unwrap().to_owned()
    };
    assert_eq!((by("model.safetensors").as_str(), by("config.json").as_str()), ("sha256", "size"));
    assert_eq!(place.told.count("Unproven"), 5, "it is said of which files only the size is known");
    let heads = server.site().seen.iter().filter(|seen| seen.method == "HEAD").cloned().collect::<Vec<_>>();
    assert!(heads.iter().all(|seen| seen.headers["x-amz-checksum-mode"] == "ENABLED") && heads.len() == 6);

    assert_eq!(place.pull(SOURCE).await.unwrap().fetched, 0);
    let told = format!("{} {:?} {record}", place.told.all(), place.options);
    assert!(!told.contains(SECRET) && !told.contains("X-Amz-Signature"), "{told}");
}

#[tokio::test]
async fn sums_among_the_objects_prove_all_of_them() {
    let (server, place) = demo().await;
    server.put("/models/demo v1/SHA256SUMS", sums(needed()));
    server.fail(WEIGHTS, [Fault::WrongByte]);
    place.pull(SOURCE).await.unwrap();
    assert_whole(&place);
    assert_eq!((place.told.count("Unproven"), place.told.count("Lost")), (0, 1));
}

#[tokio::test]
async fn a_checksum_of_parts_is_none_of_the_whole() {
    let (server, place) = demo().await;
    let value = format!("{}-3", BASE64_STANDARD.encode([7; 32]));
    server.site().headers.push((WEIGHTS.to_owned(), "x-amz-checksum-sha256", value));
    place.pull(SOURCE).await.unwrap();
    assert_whole(&place);
    assert_eq!(place.told.count("Unproven"), 6);
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_fetched_is_noticed() {
    let (server, place) = demo().await;
    server.fail(WEIGHTS, [Fault::CutAndReplace(1_000_000, vec![7; 6_629_824])]);
    let error = place.pull(SOURCE).await.unwrap_err();
    assert!(matches!(&error, PullError::Changed { path, .. } if path == "model.safetensors"), "{error}");
    assert!(place.visible().is_empty());
    let gets = server.gets(WEIGHTS);
    assert_eq!(gets[1].header(header::RANGE), Some("bytes=1000000-"));
    // The next run lists again, and does not put the new version behind bytes of the old one.
    place.pull(SOURCE).await.unwrap();
    assert!(place.read("model.safetensors").iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_wrong_key_is_told_with_what_the_server_says() {
    let (_server, mut place) = demo().await;
    place.options.bucket.credentials =
        Some(Credentials { key_id: KEY_ID.to_owned(), secret: Secret::new("wrong"), token: None });
    let error = place.pull(SOURCE).await.unwrap_err().to_string();
    for part in ["answered 403", "check the access key", "s3:ListBucket", "the signature is another one"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(!error.contains("X-Amz-Signature") && !error.contains("wrong"), "{error}");
}

#[tokio::test]
async fn a_bucket_for_everybody_is_asked_without_a_signature() {
    let (server, mut place) = demo().await;
    server.site().bucket = Some(Keys { id: "", secret: "" });
    place.options.bucket.credentials = None;
    place.pull(SOURCE).await.unwrap();
    assert_whole(&place);
    assert!(server.site().seen.iter().all(|seen| !seen.query.contains("X-Amz")));
}

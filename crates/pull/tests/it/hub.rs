//! A hub with files in LFS on another host, a token, pages, and revisions that move.

use axum::http::header;
use serde_json::{Value, json};
use vlinders_pull::{PullError, Secret};

use crate::server::Server;
use crate::support::{Place, assert_whole, sha256};

const COMMIT: &str = "0e9e39f249a16976918f6564b8830bc894c89659";
const TOKEN: &str = "hf_not_a_real_one";

/// A hub with the built-in model, whose weights lie at a content network.
struct Hub {
    hub: Server,
    content: Server,
}

fn entry(name: &str, content: &[u8]) -> Value {
    if name.ends_with(".safetensors") {
        let lfs = json!({ "oid": sha256(content), "size": content.len(), "pointerSize": 134 });
        json!({ "type": "file", "oid": "0".repeat(40), "size": content.len(), "path": name, "lfs": lfs })
    } else {
        let mut blob = format!("blob {}\0", content.len()).into_bytes();
        blob.extend_from_slice(content);
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &blob);
        let oid: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "type": "file", "oid": oid, "size": content.len(), "path": name })
    }
}

fn tree(entries: impl IntoIterator<Item = Value>) -> String {
    Value::from_iter(entries).to_string()
}

impl Hub {
    async fn start() -> Self {
        let (hub, content) = (Server::start().await, Server::start().await);
        for (name, bytes) in vlinders_demo::FILES {
            let path = format!("/org/demo/resolve/{COMMIT}/{name}");
            if name.ends_with(".safetensors") {
                content.put("/lfs/weights", *bytes);
                hub.site().redirects.insert(path, format!("{}/lfs/weights?signature=secret", content.url));
            } else {
                hub.put(&path, *bytes);
            }
        }
        let folder = json!({ "type": "directory", "oid": "0".repeat(40), "size": 0, "path": "onnx" });
        let entries = vlinders_demo::FILES.iter().map(|(name, bytes)| entry(name, bytes)).chain([folder]);
        hub.put(&format!("/api/models/org/demo/tree/{COMMIT}"), tree(entries));
        hub.put("/api/models/org/demo/revision/main", json!({ "sha": COMMIT }).to_string());
        hub.site().token = Some(TOKEN.to_owned());
        Self { hub, content }
    }

    fn place(&self) -> Place {
        let mut place = Place::new();
        place.options.hub.endpoint = self.hub.url.parse().unwrap();
        place.options.hub.token = Some(Secret::new(TOKEN));
        place
    }
}

#[tokio::test]
async fn a_pinned_model_is_proved_file_by_file_and_then_nobody_is_asked_any_more() {
    let hub = Hub::start().await;
    let place = hub.place();
    let source = format!("hf://org/demo@{COMMIT}");
    let report = place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!((report.revision.as_str(), report.fetched), (COMMIT, 6));
    let record = place.record();
    let by = |name: &str| {
        let files = record["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == name).unwrap()["verified_by"].clone()
    };
    assert_eq!((by("model.safetensors"), by("config.json")), (json!("sha256"), json!("git-sha1")));
    assert_eq!(place.told.count("Unpinned"), 0);

    let asked = hub.hub.site().seen.len();
    assert_eq!(place.pull(&source).await.unwrap().fetched, 0);
    assert_eq!(hub.hub.site().seen.len(), asked, "the record says that all is there");
}

#[tokio::test]
async fn the_token_stays_with_the_hub() {
    let hub = Hub::start().await;
    let place = hub.place();
    place.pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap();
    let bearer = format!("Bearer {TOKEN}");
    let seen = hub.hub.site().seen.clone();
    assert!(seen.iter().all(|seen| seen.header(header::AUTHORIZATION) == Some(&bearer)));
    let weights = hub.content.gets("/lfs/weights");
    assert!(weights.len() == 1 && weights[0].query == "signature=secret");
    assert_eq!(weights[0].header(header::AUTHORIZATION), None);
    assert_eq!(weights[0].header(header::REFERER), None);
    let told = format!("{} {:?} {}", place.told.all(), place.options, place.record());
    assert!(!told.contains(TOKEN) && !told.contains("signature"), "{told}");
}

#[tokio::test]
async fn a_broken_signature_is_not_told_with_the_address() {
    let hub = Hub::start().await;
    hub.content.fail("/lfs/weights", [crate::server::Fault::Status(403)]);
    let error = hub.place().pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap_err().to_string();
    assert!(error.contains("/lfs/weights answered 403") && !error.contains("signature=secret"), "{error}");
}

#[tokio::test]
async fn a_branch_is_resolved_to_a_commit_first() {
    let hub = Hub::start().await;
    let place = hub.place();
    let report = place.pull("hf://org/demo").await.unwrap();
    assert_eq!(report.revision, COMMIT);
    assert_eq!(place.told.count("Unpinned"), 1);
    assert_whole(&place);
    let again = place.pull("hf://org/demo").await.unwrap();
    assert_eq!(again.fetched, 0);
    assert_eq!(hub.content.gets("/lfs/weights").len(), 1);
}

#[tokio::test]
async fn who_may_not_read_is_told_what_to_do() {
    let hub = Hub::start().await;
    let mut place = hub.place();
    place.options.hub.token = None;
    let error = place.pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap_err();
    assert!(matches!(error, PullError::Denied { status: 401, .. }));
    let text = error.to_string();
    for part in ["answered 401", "--hf-token-file", "accept the licence", "Invalid credentials"] {
        assert!(text.contains(part), "{text}");
    }
    let error = hub.place().pull("hf://org/other").await.unwrap_err().to_string();
    assert!(
        error.contains("/api/models/org/other/revision/main answered 404")
            && error.contains("no such repository")
    );
}

#[tokio::test]
async fn a_long_listing_comes_in_pages_of_the_same_hub() {
    let hub = Hub::start().await;
    let path = format!("/api/models/org/demo/tree/{COMMIT}");
    let second = "/api/page/2";
    let entries: Vec<_> = vlinders_demo::FILES.iter().map(|(name, bytes)| entry(name, bytes)).collect();
    hub.hub.put(&path, tree(entries[..3].to_vec()));
    hub.hub.put(second, tree(entries[3..].to_vec()));
    let link = |url: &str| format!("<{url}{second}?cursor=abc>; rel=\"next\"");
    hub.hub.site().headers.push((path.clone(), "link", link(&hub.hub.url)));
    let place = hub.place();
    place.pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap();
    assert_whole(&place);

    hub.hub.site().headers[0].2 = link(&hub.content.url);
    let error = hub.place().pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap_err();
    assert!(matches!(error, PullError::Malformed { .. }), "{error}");
    assert!(hub.content.gets(second).is_empty(), "our token would go along");
}

#[tokio::test]
async fn a_small_file_that_is_not_what_git_says_is_refused() {
    let hub = Hub::start().await;
    let path = format!("/org/demo/resolve/{COMMIT}/config.json");
    let same_size = vec![b' '; vlinders_demo::file("config.json").unwrap().len()];
    hub.hub.put(&path, same_size);
    let place = hub.place();
    let error = place.pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap_err();
    assert!(matches!(&error, PullError::Mismatch { path, .. } if path == "config.json"), "{error}");
    assert!(place.visible().is_empty());
}

#[tokio::test]
async fn redirects_without_end_are_left() {
    let hub = Hub::start().await;
    let path = format!("/org/demo/resolve/{COMMIT}/config.json");
    hub.hub.site().redirects.insert(path.clone(), path);
    let error = hub.place().pull(&format!("hf://org/demo@{COMMIT}")).await.unwrap_err();
    assert!(matches!(error, PullError::Redirect { .. }), "{error}");
}

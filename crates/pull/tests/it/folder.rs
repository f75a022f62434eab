//! A folder with SHA256SUMS: what is fetched, what is left alone, and what a second run does.

use vlinders_pull::PullError;

use crate::server::Server;
use crate::support::{Place, assert_whole, needed, sums};

pub(crate) const WEIGHTS: &str = "/m/model.safetensors";

/// The built-in model under `/m/`.
pub(crate) async fn demo() -> (Server, String) {
    let server = Server::start().await;
    for (name, content) in vlinders_demo::FILES {
        server.put(&format!("/m/{name}"), *content);
    }
    server.put("/m/pytorch_model.bin", "no server reads this");
    let all =
        vlinders_demo::FILES.iter().copied().chain([("pytorch_model.bin", &b"no server reads this"[..])]);
    server.put("/m/SHA256SUMS", sums(all));
    let source = format!("{}/m", server.url);
    (server, source)
}

#[tokio::test]
async fn what_a_server_needs_is_fetched_and_recorded_and_the_second_run_fetches_nothing() {
    let (server, source) = demo().await;
    let place = Place::new();
    let report = place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!((report.files, report.fetched), (6, 6));
    assert_eq!(report.bytes, needed().map(|(_, content)| content.len() as u64).sum::<u64>());
    assert!(server.gets("/m/pytorch_model.bin").is_empty() && server.gets("/m/MODEL_CARD.md").is_empty());
    let record = place.record();
    assert_eq!(record["source"], format!("{source}/"));
    let weights = record["files"].as_array().unwrap().iter().find(|file| file["path"] == "model.safetensors");
    let weights = weights.unwrap();
    assert_eq!(weights["size"], vlinders_demo::file("model.safetensors").unwrap().len());
    assert_eq!(weights["verified_by"], "sha256");
    assert_eq!(weights["sha256"].as_str().unwrap().len(), 64);

    let again = place.pull(&source).await.unwrap();
    assert_eq!((again.files, again.fetched), (6, 0));
    assert_eq!(server.gets(WEIGHTS).len(), 1, "it was not asked for again");
}

#[tokio::test]
async fn a_new_version_replaces_the_old_one_and_what_it_lacks_goes() {
    let (server, source) = demo().await;
    let place = Place::new();
    place.pull(&source).await.unwrap();
    std::fs::write(place.folder().join("notes.txt"), "mine").unwrap();

    let files = [("config.json", &b"{\"new\": 1}"[..]), ("model.safetensors", b"new weights")];
    for (name, content) in files {
        server.put(&format!("/m/{name}"), content);
    }
    server.put("/m/SHA256SUMS", sums(files));
    let report = place.pull(&source).await.unwrap();
    assert_eq!((report.files, report.fetched, report.removed), (2, 2, 4));
    assert_eq!(place.visible(), ["config.json", "model.safetensors", "notes.txt"]);
    assert_eq!(place.read("model.safetensors"), b"new weights");
}

#[tokio::test]
async fn files_that_somebody_copied_there_are_hashed_and_kept() {
    let (server, source) = demo().await;
    let place = Place::new();
    std::fs::create_dir_all(place.folder()).unwrap();
    for (name, content) in needed() {
        std::fs::write(place.folder().join(name), content).unwrap();
    }
    std::fs::write(place.folder().join("config.json"), "{}").unwrap();
    let report = place.pull(&source).await.unwrap();
    assert_eq!(report.fetched, 1, "only the file that differs");
    assert!(server.gets(WEIGHTS).is_empty());
    assert_whole(&place);
}

/// As it looks when a run was killed while it moved files to their places.
#[tokio::test]
async fn a_run_that_was_killed_among_the_last_steps_is_finished_without_fetching() {
    let (server, source) = demo().await;
    let mut place = Place::new();
    // One after the other, by name.
    place.options.connections = 1;
    server.fail("/m/tokenizer.json", [crate::server::Fault::Status(404)]);
    place.pull(&source).await.unwrap_err();
    let fetched = server.site().seen.iter().filter(|seen| seen.method == "GET").count();
    let whole = std::fs::read_dir(place.folder().join(".vlinders-pull.files")).unwrap();
    let whole = whole.map(|entry| entry.unwrap().path());
    let whole: Vec<_> = whole.filter(|path| path.to_string_lossy().ends_with(".whole")).collect();
    let moved = whole.iter().find(|path| path.to_string_lossy().contains("config.json")).unwrap();
    std::fs::rename(moved, place.folder().join("config.json")).unwrap();
    assert!(whole.len() == 4 && place.visible() == ["config.json"], "{whole:?}");

    place.pull(&source).await.unwrap();
    assert_whole(&place);
    let again = server.site().seen.iter().filter(|seen| seen.method == "GET").count();
    assert_eq!(again - fetched, 1 + (6 - whole.len()), "the listing, and what was not whole before");
}

/// Files of both versions have the same sizes, so that sizes tell nothing.
#[tokio::test]
async fn a_replacement_that_breaks_off_half_way_is_not_taken_for_the_old_version() {
    let server = Server::start().await;
    let place = Place::new();
    let serve = |version: &'static [u8]| {
        let files = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| (name, version));
        files.iter().for_each(|(name, content)| server.put(&format!("/m/{name}"), *content));
        server.put("/m/SHA256SUMS", sums(files));
    };
    let source = format!("{}/m/", server.url);
    serve(b"one");
    place.pull(&source).await.unwrap();
    serve(b"two");
    // The last file can not be moved to its place.
    std::fs::remove_file(place.folder().join("tokenizer.json")).unwrap();
    std::fs::create_dir_all(place.folder().join("tokenizer.json/x")).unwrap();
    let error = place.pull(&source).await.unwrap_err();
    assert!(matches!(error, PullError::Io { .. }), "{error}");
    assert_eq!(place.read("config.json"), b"two");
    std::fs::remove_dir_all(place.folder().join("tokenizer.json")).unwrap();
    serve(b"one");
    place.pull(&source).await.unwrap();
    for name in place.visible() {
        assert_eq!(place.read(&name), b"one", "{name}");
    }
    assert_eq!(place.visible().len(), 3);
}

#[tokio::test]
async fn verifying_finds_a_changed_byte_and_fetches_that_file_alone() {
    let (server, source) = demo().await;
    let mut place = Place::new();
    place.pull(&source).await.unwrap();
    let mut weights = place.read("model.safetensors");
    weights[1000] ^= 1;
    std::fs::write(place.folder().join("model.safetensors"), &weights).unwrap();
    assert_eq!(place.pull(&source).await.unwrap().fetched, 0, "sizes are right");
    place.options.verify = true;
    assert_eq!(place.pull(&source).await.unwrap().fetched, 1);
    assert_whole(&place);
    assert_eq!(server.gets(WEIGHTS).len(), 2);
}

#[tokio::test]
async fn a_file_that_is_gone_or_short_is_fetched_again() {
    let (_server, source) = demo().await;
    let place = Place::new();
    place.pull(&source).await.unwrap();
    std::fs::remove_file(place.folder().join("config.json")).unwrap();
    std::fs::write(place.folder().join("tokenizer.json"), "short").unwrap();
    assert_eq!(place.pull(&source).await.unwrap().fetched, 2);
    assert_whole(&place);
}

#[tokio::test]
async fn two_loaders_on_one_volume_fetch_once() {
    let (server, source) = demo().await;
    let place = Place::new();
    let second = place.beside();
    let (first, second_report) = tokio::join!(place.pull(&source), second.pull(&source));
    let (first, second_report) = (first.unwrap(), second_report.unwrap());
    assert_eq!(first.fetched + second_report.fetched, 6);
    assert_eq!(place.told.count("Waiting") + second.told.count("Waiting"), 1);
    assert_eq!(server.gets(WEIGHTS).len(), 1);
    assert_whole(&place);
}

#[tokio::test]
async fn one_gguf_file_beside_others() {
    let server = Server::start().await;
    let files = [("a-Q8_0.gguf", &b"eight"[..]), ("a-Q4_0.gguf", b"four"), ("config.json", b"{}")];
    for (name, content) in files {
        server.put(&format!("/m/{name}"), content);
    }
    server.put("/m/SHA256SUMS", sums(files));
    let source = format!("{}/m/", server.url);
    let mut place = Place::new();
    for (name, number) in [("a-Q8_0.gguf", 1), ("a-Q4_0.gguf", 2)] {
        place.target.gguf = Some(name.to_owned());
        assert_eq!(place.pull(&source).await.unwrap().fetched, 1);
        assert_eq!(place.visible().len(), number, "the other one stays");
    }
    place.target.gguf = Some("b.gguf".to_owned());
    let error = place.pull(&source).await.unwrap_err().to_string();
    assert!(error.contains("has no file b.gguf; it has a-Q8_0.gguf, a-Q4_0.gguf, config.json"), "{error}");
}

#[tokio::test]
async fn what_was_asked_for_and_nothing_else() {
    let (_server, source) = demo().await;
    let mut place = Place::new();
    place.options.include = vec!["*.json".to_owned(), "*.bin".to_owned()];
    place.options.exclude = vec!["tokenizer*".to_owned()];
    place.pull(&source).await.unwrap();
    assert_eq!(place.visible(), ["config.json", "generation_config.json", "pytorch_model.bin"]);
    place.options.include = vec!["*.pth".to_owned()];
    let error = place.pull(&source).await.unwrap_err();
    assert!(matches!(&error, PullError::Nothing { wanted, .. } if wanted.contains("*.pth")), "{error}");
}

#[tokio::test]
async fn a_listing_that_leads_out_of_the_folder_is_refused_as_a_whole() {
    for evil in ["../config.json", "/etc/config.json", "a/../../config.json", ".vlinders-pull.json"] {
        let server = Server::start().await;
        server.put("/config.json", "{}");
        server.put("/m/config.json", "{}");
        server.put("/m/model.safetensors", "w");
        server.put(
            "/m/SHA256SUMS",
            sums([("config.json", &b"{}"[..]), ("model.safetensors", b"w"), (evil, b"{}")]),
        );
        let place = Place::new();
        let error = place.pull(&format!("{}/m/", server.url)).await.unwrap_err();
        assert!(matches!(&error, PullError::UnsafePath { path, .. } if path == evil), "{error}");
        assert!(place.visible().is_empty() && server.gets("/m/model.safetensors").is_empty());
        assert!(!place.root().join("config.json").exists());
    }
}

#[tokio::test]
async fn without_sums_nothing_is_fetched() {
    let server = Server::start().await;
    let error = Place::new().pull(&format!("{}/m/", server.url)).await.unwrap_err().to_string();
    assert!(error.contains("/m/SHA256SUMS answered 404") && error.contains("sha256sum *"), "{error}");
    server.put("/m/SHA256SUMS", "<html>a page</html>");
    let error = Place::new().pull(&format!("{}/m/", server.url)).await.unwrap_err().to_string();
    assert!(error.contains("line 1 is not"), "{error}");
}

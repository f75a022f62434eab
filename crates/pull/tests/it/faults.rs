//! Connections that break, servers that err, bytes that change: each time the model is whole in the end, or not there.

use axum::http::header;
use vlinders_pull::PullError;

use crate::folder::{WEIGHTS, demo};
use crate::server::{Fault, etag};
use crate::support::{Place, assert_whole};

fn weights() -> &'static [u8] {
    vlinders_demo::file("model.safetensors").unwrap()
}

#[tokio::test]
async fn after_a_cut_the_rest_is_asked_for_and_nothing_twice() {
    let (server, source) = demo().await;
    server.fail(WEIGHTS, [Fault::CutAfter(2_000_000), Fault::CutAfter(1_000_000)]);
    let place = Place::new();
    place.pull(&source).await.unwrap();
    assert_whole(&place);
    let gets = server.gets(WEIGHTS);
    let ranges: Vec<_> = gets.iter().map(|seen| seen.header(header::RANGE)).collect();
    assert_eq!(ranges, [None, Some("bytes=2000000-"), Some("bytes=3000000-")]);
    assert_eq!(gets[1].header(header::IF_RANGE), Some(etag(weights()).as_str()), "of the same version");
    assert_eq!(place.told.count("Retrying"), 2, "{}", place.told.all());
}

#[tokio::test]
async fn the_next_run_goes_on_where_one_gave_up() {
    let (server, source) = demo().await;
    server.fail(WEIGHTS, [Fault::CutAfter(2_000_000), Fault::Status(503)]);
    let mut place = Place::new();
    place.options.retry.attempts = 2;
    let error = place.pull(&source).await.unwrap_err();
    assert!(matches!(error, PullError::GaveUp { attempts: 2, .. }), "{error}");
    assert!(error.to_string().contains("503") && error.to_string().contains("run it again"), "{error}");
    assert!(place.visible().is_empty(), "nothing is visible before all is whole");
    assert_eq!(place.partials().iter().max(), Some(&2_000_000));

    place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!(server.gets(WEIGHTS)[2].header(header::RANGE), Some("bytes=2000000-"));
}

#[tokio::test]
async fn errors_that_pass_are_waited_for_and_others_are_not() {
    let (server, source) = demo().await;
    server.fail(WEIGHTS, [500, 429, 503].map(Fault::Status));
    server.fail("/m/SHA256SUMS", [Fault::Status(502)]);
    let place = Place::new();
    place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!(place.told.count("Retrying"), 4);

    for (status, words) in [
        (401, "no credentials are sent to plain web servers"),
        (403, "answered 403"),
        (404, "each file it lists"),
        (410, "answered 410"),
    ] {
        let (server, source) = demo().await;
        server.fail(WEIGHTS, [Fault::Status(status)]);
        let place = Place::new();
        let error = place.pull(&source).await.unwrap_err().to_string();
        assert!(error.contains("/m/model.safetensors") && error.contains(words), "{error}");
        assert_eq!(server.gets(WEIGHTS).len(), 1, "{status} is not asked again");
    }
}

#[tokio::test]
async fn a_server_that_stays_ill_is_given_up() {
    let (server, source) = demo().await;
    server.fail(WEIGHTS, [500; 9].map(Fault::Status));
    let error = Place::new().pull(&source).await.unwrap_err();
    assert!(matches!(error, PullError::GaveUp { attempts: 4, .. }), "{error}");
    assert_eq!(server.gets(WEIGHTS).len(), 4);
}

#[tokio::test]
async fn wrong_bytes_are_thrown_away_and_fetched_once_more() {
    let (server, source) = demo().await;
    server.fail(WEIGHTS, [Fault::WrongByte]);
    let place = Place::new();
    place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!(place.told.count("Lost"), 1);

    let (server, source) = demo().await;
    server.fail(WEIGHTS, [Fault::WrongByte, Fault::WrongByte, Fault::WrongByte]);
    let place = Place::new();
    let error = place.pull(&source).await.unwrap_err();
    assert!(matches!(&error, PullError::Mismatch { path, .. } if path == "model.safetensors"), "{error}");
    assert_eq!(server.gets(WEIGHTS).len(), 2);
    assert!(place.visible().is_empty());
    assert!(!place.partials().contains(&(weights().len() as u64)), "broken bytes are not kept");
}

/// What was fetched is of an old version: its bytes must not become the beginning of the new one.
#[tokio::test]
async fn a_version_that_changes_in_between_is_fetched_from_the_beginning() {
    let (server, source) = demo().await;
    let mut old = weights().to_vec();
    old[..1000].fill(7);
    server.put(WEIGHTS, old);
    server.fail(WEIGHTS, [Fault::CutAndReplace(3_000_000, weights().to_vec())]);
    let place = Place::new();
    place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!(server.gets(WEIGHTS).len(), 2, "the server said at once that it is another one");
    assert_eq!(place.told.count("Lost"), 1);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_from_the_beginning() {
    let (server, source) = demo().await;
    server.fail(WEIGHTS, [Fault::CutAfter(2_000_000), Fault::NoRange]);
    let place = Place::new();
    place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!(server.gets(WEIGHTS).len(), 2, "what came before was not kept");
    assert!(
        place.told.all().contains("Lost { path: \"model.safetensors\", bytes: 2000000"),
        "{}",
        place.told.all()
    );
}

#[tokio::test]
async fn a_server_that_tells_no_sizes_is_read_to_the_end_and_resumed_all_the_same() {
    let (server, source) = demo().await;
    server.site().heads_are_empty = true;
    server.fail(WEIGHTS, [Fault::CutAfter(2_000_000)]);
    let place = Place::new();
    place.pull(&source).await.unwrap();
    assert_whole(&place);
    assert_eq!(server.gets(WEIGHTS)[1].header(header::RANGE), Some("bytes=2000000-"));
    assert_eq!(place.pull(&source).await.unwrap().fetched, 0);
}

/// Bytes of an earlier run that are not a beginning of the file: too many, or of something else.
#[tokio::test]
async fn what_an_earlier_run_left_is_not_believed() {
    for garbage in [vec![7; 100], vec![7; weights().len()], vec![7; weights().len() + 5]] {
        let (server, source) = demo().await;
        server.fail(WEIGHTS, [Fault::CutAfter(1000), Fault::Status(404)]);
        let place = Place::new();
        place.pull(&source).await.unwrap_err();
        let staging = place.folder().join(".vlinders-pull.files");
        let names = std::fs::read_dir(&staging).unwrap().map(|entry| entry.unwrap().path());
        let partial =
            names.into_iter().find(|path| path.to_string_lossy().contains("model.safetensors")).unwrap();
        std::fs::write(&partial, &garbage).unwrap();
        std::fs::write(staging.join("model.safetensors.0123456789abcdef.partial"), "another version")
            .unwrap();
        place.pull(&source).await.unwrap();
        assert_whole(&place);
    }
}

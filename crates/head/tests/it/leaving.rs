//! The end of a head: what it still takes, what it finishes, what it ends.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::support::{Act, MockWorker, TestHead};

/// A stream whose first event has come, and the means to go on with it.
async fn begun(head: &TestHead, worker: &MockWorker) -> (mpsc::Sender<&'static str>, reqwest::Response) {
    let (tell, told) = mpsc::channel(4);
    worker.will([Act::Told(told)]);
    tell.send("data: {\"a\":1}\n\n").await.unwrap();
    let mut running = head.chat("running", true).send().await.unwrap();
    running.chunk().await.unwrap().unwrap();
    (tell, running)
}

#[tokio::test]
async fn a_head_that_leaves_finishes_what_it_has_and_takes_more_for_a_while() {
    let worker = MockWorker::start("a").await;
    let mut head = TestHead::with(&[&worker], |config| config.shutdown_delay = Duration::from_secs(2)).await;
    let (tell, mut running) = begun(&head, &worker).await;
    head.stop();
    while head.get("/ready").await.0 == 200 {}
    let late = head.chat("late", false).send().await.unwrap();
    assert_eq!(late.status(), 200, "load balancers have not noticed yet");
    assert_eq!(late.headers()["connection"], "close");
    tell.send("data: {\"a\":2}\n\ndata: [DONE]\n\n").await.unwrap();
    drop(tell);
    let mut rest = Vec::new();
    while let Some(chunk) = running.chunk().await.unwrap() {
        rest.extend_from_slice(&chunk);
    }
    assert_eq!(rest, b"data: {\"a\":2}\n\ndata: [DONE]\n\n");
    assert!(head.stopped().await);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_ended_with_an_error() {
    let worker = MockWorker::start("a").await;
    let mut head =
        TestHead::with(&[&worker], |config| config.shutdown_grace = Duration::from_millis(200)).await;
    let (_tell, running) = begun(&head, &worker).await;
    head.stop();
    assert!(!head.stopped().await);
    let rest = running.text().await.unwrap();
    assert!(rest.contains("shutting_down") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
}

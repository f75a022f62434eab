//! Workers that fail: what is tried again, what is not, and what the client hears.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{Act, MockWorker, TestHead};

type Kind = fn() -> Act;

/// Two workers, of which the one that gets the next request does `act`.
async fn two(act: impl Fn() -> Act) -> (TestHead, [MockWorker; 2]) {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::start(&[&workers[0], &workers[1]]).await;
    // Either may be asked first, and the other must answer.
    let (status, answer) = head.ask("find out whose turn it is").await;
    assert_eq!(status, 200);
    let next = usize::from(answer["worker"] == "a");
    workers[next].will([act()]);
    (head, workers)
}

#[tokio::test]
async fn what_has_no_byte_yet_is_asked_of_another() {
    let kinds: [(Kind, &str); 8] = [
        (|| Act::Hang, "broken"),
        (|| Act::Cut(""), "broken"),
        (|| Act::Cut(": usage 1 0 0\n\ndata: {\"half"), "broken"),
        (
            || Act::Cut("data: {\"error\":{\"message\":\"the model has failed\"}}\n\ndata: [DONE]\n\n"),
            "broken",
        ),
        (|| Act::Refuse(500, "internal_error"), "broken"),
        (|| Act::Refuse(503, "shutting_down"), "unavailable"),
        (|| Act::Refuse(404, "model_not_found"), "unavailable"),
        (|| Act::Refuse(429, "queue_full"), "busy"),
    ];
    for (number, (act, reason)) in kinds.into_iter().enumerate() {
        let (head, workers) = two(act).await;
        let told = head.stream("hello").await;
        assert!(told.contains("\"worker\"") && told.ends_with("data: [DONE]\n\n"), "case {number}: {told}");
        assert!(!told.contains("error") && !told.contains("half"), "case {number}: {told}");
        let retries = format!("vlinders_head_retries_total{{model_name=\"parrot\",reason=\"{reason}\"}}");
        assert_eq!(
            (head.metric(&retries).await, workers[0].count() + workers[1].count()),
            (1.0, 3),
            "case {number}"
        );
    }
}

#[tokio::test]
async fn a_whole_answer_that_breaks_off_is_asked_of_another() {
    let (head, _workers) = two(|| Act::Hang).await;
    assert_eq!(head.ask("hello").await.0, 200);
}

#[tokio::test]
async fn a_worker_that_is_gone_costs_no_request() {
    let (head, workers) = two(|| Act::Answer).await;
    let [a, b] = workers;
    drop(a);
    for number in 0..20 {
        assert_eq!(head.ask(&format!("{number}")).await, (200, json!({ "worker": "b" })));
    }
    drop(b);
}

#[tokio::test]
async fn after_its_first_byte_a_stream_ends_with_an_error_event() {
    let worker = MockWorker::start("a").await;
    let other = MockWorker::start("b").await;
    for bytes in ["data: {\"a\":1}\n\n: usage 5 0 1\n\n", "data: {\"a\":1}\n\n: usage 5 0 1\n\ndata: {\"a"] {
        let head = TestHead::start(&[&worker]).await;
        worker.will([Act::Cut(bytes)]);
        let told = head.stream("hello").await;
        let lines: Vec<_> = told.split("\n\n").collect();
        assert_eq!(
            (lines.len(), lines[0], lines[2], lines[3]),
            (4, "data: {\"a\":1}", "data: [DONE]", ""),
            "{told}"
        );
        let error: Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "worker_failed");
        head.until_metric("vlinders_head_requests_total{model_name=\"parrot\",outcome=\"failed\"}", 1.0)
            .await;
        assert_eq!(
            head.metric("vlinders_head_tokens_total{model_name=\"parrot\",kind=\"completion\"}").await,
            1.0
        );
    }
    assert_eq!(other.count(), 0, "nothing is sent twice");
}

#[tokio::test]
async fn no_more_than_three_workers_are_asked() {
    let names = ["a", "b", "c", "d", "e"];
    let mut workers = Vec::new();
    for name in names {
        workers.push(MockWorker::start(name).await);
    }
    let all: Vec<_> = workers.iter().collect();
    let head = TestHead::start(&all).await;
    for worker in &workers {
        worker.will([Act::Refuse(503, "engine_failed")]);
    }
    let (status, answer) = head.ask("hello").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("engine_failed")));
    assert_eq!(workers.iter().map(MockWorker::count).sum::<usize>(), 3);
}

#[tokio::test]
async fn where_all_are_busy_the_client_is_told_at_once() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::start(&[&workers[0], &workers[1]]).await;
    for worker in &workers {
        worker.will([Act::Refuse(429, "queue_full")]);
    }
    let response = head.chat("hello", true).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"7".parse().unwrap())
    );
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "queue_full");
    assert_eq!(workers.iter().map(MockWorker::count).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_request_is_not_lost_when_its_only_worker_starts_anew() {
    let worker = MockWorker::start("old").await;
    let head = TestHead::start(&[&worker]).await;
    let address = worker.address.clone();
    drop(worker);
    let asked = tokio::spawn(head.chat("hello", false).send());
    head.until_metric("vlinders_head_queue_depth{model_name=\"parrot\"}", 1.0).await;
    let _new = MockWorker::at(&address, "new").await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({ "worker": "new" }));
}

#[tokio::test]
async fn a_stream_that_takes_too_long_is_ended_with_an_error_event() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::with(&[&worker], |config| {
        config.request_timeout = std::time::Duration::from_millis(1500);
    })
    .await;
    let (tell, told) = mpsc::channel(4);
    worker.will([Act::Told(told)]);
    tell.send("data: {\"a\":1}\n\n").await.unwrap();
    let heard = head.stream("hello").await;
    assert!(heard.starts_with("data: {\"a\":1}\n\n") && heard.ends_with("data: [DONE]\n\n"), "{heard}");
    assert!(heard.contains("deadline_exceeded"), "{heard}");
    worker.until_left().await;
}

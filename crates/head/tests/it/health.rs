//! Which workers are asked: by what they say, and by what they do.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use vlinders_api::ModelCondition;

use crate::support::{Act, MockWorker, TestHead};

#[tokio::test]
async fn only_workers_that_say_they_are_ready_are_asked() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::start(&[&workers[0], &workers[1]]).await;
    let who = async || head.ask("hello").await.1["worker"].as_str().unwrap().to_owned();
    for condition in
        [ModelCondition::Loading, ModelCondition::Stalled, ModelCondition::Failed, ModelCondition::Draining]
    {
        workers[0].says(|state| state.models[0].condition = condition);
        head.until_ready(1).await;
        for _ in 0..4 {
            assert_eq!(who().await, "b", "{condition:?}");
        }
        workers[0].says(|state| state.models[0].condition = ModelCondition::Ready);
        head.until_ready(2).await;
    }
    workers[1].says(|state| state.open = false);
    head.until_ready(1).await;
    assert_eq!(who().await, "a");
    workers[1].says(|state| {
        state.open = true;
        state.models.clear();
    });
    head.until_metric("vlinders_head_workers{model_name=\"parrot\",state=\"not_ready\"}", 0.0).await;
    assert_eq!(who().await, "a");
}

#[tokio::test]
async fn a_worker_with_work_and_no_steps_is_left_alone() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::with(&[&workers[0], &workers[1]], |config| {
        config.health.stall_timeout = Duration::from_millis(200);
    })
    .await;
    workers[0].says(|state| state.models[0].has_work = true);
    head.until_ready(1).await;
    assert_eq!(head.ask("hello").await.1["worker"], "b");
    workers[0].says(|state| state.models[0].steps += 1);
    head.until_ready(2).await;
}

#[tokio::test]
async fn a_worker_that_keeps_failing_rests_and_gets_another_chance() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::start(&[&workers[0], &workers[1]]).await;
    workers[0].will((0..4).map(|_| Act::Refuse(500, "internal_error")));
    // It fails three times, and the fourth time when it is tried again after a second; then it has recovered.
    let (mut asked, mut opened) = (0, Instant::now());
    while workers[0].count() < 3 {
        opened = Instant::now();
        assert_eq!(head.ask(&format!("{asked}")).await.0, 200);
        asked += 1;
    }
    head.until_ready(1).await;
    for number in 0..10 {
        let (_, answer) = head.ask(&format!("rest {number}")).await;
        let count = workers[0].count();
        // On a machine that is very busy the rest may be over.
        if opened.elapsed() < Duration::from_secs(1) {
            assert_eq!((answer["worker"].as_str(), count), (Some("b"), 3), "its breaker is open");
        }
    }
    head.until_ready(2).await;
    while workers[0].count() < 4 {
        assert_eq!(head.ask(&format!("trial {asked}")).await.0, 200);
        asked += 1;
    }
    head.until_ready(1).await;
    head.until_ready(2).await;
    loop {
        let (status, answer) = head.ask(&format!("recovered {asked}")).await;
        assert_eq!(status, 200);
        asked += 1;
        if answer["worker"] == "a" {
            break;
        }
    }
    head.until_ready(2).await;
}

#[tokio::test]
async fn load_of_others_is_seen_in_what_workers_say() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::start(&[&workers[0], &workers[1]]).await;
    workers[0].says(|state| state.models[0].running = 30);
    let mut before = 0;
    // Until the report has come, either may be asked.
    while before < 8 {
        before = if head.ask("hello").await.1["worker"] == "b" { before + 1 } else { 0 };
    }
    workers[0].says(|state| state.models[0].running = 0);
    workers[1].says(|state| state.models[0].kv_usage = 0.99);
    let mut after = 0;
    while after < 8 {
        after = if head.ask("hello").await.1["worker"] == "a" { after + 1 } else { 0 };
    }
}

#[tokio::test]
async fn what_a_silent_worker_has_is_given_up() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let head = TestHead::with(&[&workers[0], &workers[1]], |config| {
        config.health.timeout = Duration::from_millis(100);
        config.health.lost_timeout = Duration::from_millis(300);
    })
    .await;
    // One request has no byte yet, and one stream has begun.
    let (tell, told) = mpsc::channel(4);
    tell.send("data: {\"a\":1}\n\n").await.unwrap();
    workers[1].says(|state| state.models[0].condition = ModelCondition::Loading);
    head.until_ready(1).await;
    workers[0].will([Act::Told(told), Act::Silence]);
    let stream = tokio::spawn(head.chat("stream", true).send());
    while workers[0].count() < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let request = tokio::spawn(head.chat("request", false).send());
    while workers[0].count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    workers[1].says(|state| state.models[0].condition = ModelCondition::Ready);
    workers[0].freeze();
    let answer: serde_json::Value = request.await.unwrap().unwrap().json().await.unwrap();
    assert_eq!(answer["worker"], "b");
    let heard = stream.await.unwrap().unwrap().text().await.unwrap();
    assert!(heard.starts_with("data: {\"a\":1}\n\n") && heard.contains("worker_failed"), "{heard}");
    drop(tell);
}

//! Models that are offered, whether or not a worker is there, and the queue for one.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use vlinders_head::{Discovery, Pool, Stage, Target};

use crate::support::{MODEL, MockWorker, TestHead, nobody, offer};

fn names(list: &Value) -> Vec<&str> {
    list["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn models_are_listed_before_their_workers_are_there() {
    let head = TestHead::at(vec![nobody().await], |_| {}).await;
    let (status, list) = head.get("/v1/models").await;
    assert_eq!((status, names(&list)), (200, vec![MODEL, "org/parrot-small"]));
    let (status, card) = head.get("/v1/models/org/parrot-small").await;
    assert_eq!((status, card["root"].as_str(), card.get("max_model_len")), (200, Some(MODEL), None));
    assert_eq!(head.get("/v1/models/other").await.0, 404);
    let mut ready = head.get("/ready").await;
    while ready.0 != 200 {
        ready = head.get("/ready").await;
    }
    assert_eq!(ready.1["models"][0]["ready"], 0);
    assert_eq!(head.metric("vlinders_head_queue_depth{model_name=\"parrot\"}").await, 0.0);
}

#[tokio::test]
async fn a_head_without_a_list_offers_what_workers_serve() {
    let worker = MockWorker::start("a").await;
    worker.says(|state| state.models[0].aliases = vec!["alias".into()]);
    let head = TestHead::with(&[&worker], |config| config.models = None).await;
    let (_, list) = head.get("/v1/models").await;
    assert_eq!(names(&list), [MODEL, "alias"]);
    assert_eq!(list["data"][1]["max_model_len"], 256);
    drop(worker);
    head.until_ready(0).await;
    assert_eq!(names(&head.get("/v1/models").await.1), [MODEL, "alias"], "what was there is still offered");
}

#[tokio::test]
async fn a_head_that_has_just_started_asks_before_it_says_no() {
    let worker = MockWorker::start("a").await;
    // A second one that takes no connection for a while: the head can not be sure before it has been asked too.
    let slow = tokio::net::TcpSocket::new_v4().unwrap();
    slow.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addresses = vec![worker.address.clone(), slow.local_addr().unwrap().to_string()];
    let head = TestHead::at(addresses, |config| config.models = None).await;
    assert_eq!(head.ask("hello").await, (200, serde_json::json!({ "worker": "a" })));
    assert_eq!(head.get("/v1/models/other").await.0, 404);
    let told = head.chat("hello", false).json(&serde_json::json!({ "model": "other" })).send().await.unwrap();
    assert_eq!(told.status(), 404);
}

#[tokio::test]
async fn a_model_that_is_not_offered_is_not_served() {
    let worker = MockWorker::start("a").await;
    worker.says(|state| state.models[0].name = "stray".into());
    let head = TestHead::at(vec![worker.address.clone()], |config| {
        config.models = Some(vec![offer(MODEL, &[])]);
        config.queue.timeout = Duration::from_millis(300);
    })
    .await;
    let (status, answer) = head.ask("hello").await;
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("no_worker_ready")));
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn requests_wait_for_the_first_worker() {
    let address = nobody().await;
    let head = Arc::new(TestHead::at(vec![address.clone()], |_| {}).await);
    let asking: Vec<_> = (0..5)
        .map(|number| {
            let head = Arc::clone(&head);
            tokio::spawn(async move { head.ask(&format!("{number}")).await })
        })
        .collect();
    head.until_metric("vlinders_head_queue_depth{model_name=\"parrot\"}", 5.0).await;
    let worker = MockWorker::at(&address, "late").await;
    for asked in asking {
        assert_eq!(asked.await.unwrap(), (200, serde_json::json!({ "worker": "late" })));
    }
    assert_eq!(worker.count(), 5);
    head.until_metric("vlinders_head_queue_depth{model_name=\"parrot\"}", 0.0).await;
}

#[tokio::test]
async fn the_queue_has_an_end_in_length_and_time() {
    let head = Arc::new(
        TestHead::at(vec![nobody().await], |config| {
            config.queue.max_waiting = 1;
            config.queue.timeout = Duration::from_secs(3);
            config.retry_after = Duration::from_secs(7);
        })
        .await,
    );
    let first = tokio::spawn({
        let head = Arc::clone(&head);
        async move { head.ask("first").await }
    });
    head.until_metric("vlinders_head_queue_depth{model_name=\"parrot\"}", 1.0).await;
    let second = head.chat("second", false).send().await.unwrap();
    assert_eq!((second.status().as_u16(), &second.headers()["retry-after"]), (503, &"7".parse().unwrap()));
    assert_eq!(second.json::<Value>().await.unwrap()["error"]["code"], "queue_full");
    let (status, answer) = first.await.unwrap();
    assert_eq!((status, answer["error"]["code"].as_str()), (503, Some("no_worker_ready")));
}

/// Tells what a test tells it.
struct Told(watch::Receiver<Vec<Target>>);

impl Discovery for Told {
    fn run(self: Box<Self>, found: watch::Sender<Vec<Target>>) -> BoxFuture<'static, ()> {
        let mut told = self.0;
        async move {
            loop {
                found.send_replace(told.borrow_and_update().clone());
                if told.changed().await.is_err() {
                    return;
                }
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn workers_come_and_go_as_the_platform_says() {
    let workers = [MockWorker::start("a").await, MockWorker::start("b").await];
    let pool = Arc::new(Pool { name: "test".into(), weight: 1 });
    let target = |worker: usize, stage| Target {
        address: workers[worker].address.clone(),
        name: None,
        pool: Arc::clone(&pool),
        stage,
    };
    let (tell, told) = watch::channel(vec![target(0, Stage::Ready)]);
    let head = TestHead::finding(vec![Box::new(Told(told))], |_| {}).await;
    let who = async || head.ask("hello").await.1["worker"].as_str().unwrap().to_owned();
    assert_eq!(who().await, "a");
    // The platform says that the first is being ended before it does so itself.
    tell.send_replace(vec![target(0, Stage::Terminating), target(1, Stage::Ready)]);
    head.until_metric("vlinders_head_workers{model_name=\"parrot\",state=\"not_ready\"}", 1.0).await;
    for _ in 0..5 {
        assert_eq!(who().await, "b");
    }
    tell.send_replace(vec![target(1, Stage::NotReady)]);
    head.until_ready(0).await;
    tell.send_replace(vec![target(1, Stage::Ready)]);
    assert_eq!(who().await, "b");
    tell.send_replace(vec![]);
    head.until_metric("vlinders_head_workers{model_name=\"parrot\",state=\"ready\"}", 0.0).await;
    assert_eq!(head.get("/health").await.1["models"][0]["workers"], 0);
}

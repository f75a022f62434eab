//! Who is chosen, and who waits.

use serde_json::json;
use vlinders_api::{ModelCondition, ModelState, WorkerState};

use super::*;
use crate::discovery::{Stage, Target};
use crate::request::tests::request;

fn offer(stickiness: Stickiness) -> OfferedModel {
    OfferedModel { name: "m".into(), aliases: vec!["n".into()], max_model_len: None, stickiness }
}

fn model(stickiness: Stickiness) -> Model {
    Model::new(offer(stickiness), &HeadMetrics::new(), 1 << 20)
}

/// A worker of `pool` that is ready.
fn join(model: &Model, number: usize, pool: &Arc<Pool>) -> Arc<Replica> {
    let address = format!("10.0.0.{number}:80");
    let authority = address.parse().unwrap();
    let target = Target { address, name: None, pool: Arc::clone(pool), stage: Stage::Ready };
    let replica = model.join(&Arc::new(Worker::new(authority, target))).unwrap();
    report(&replica, ModelState { kv_tokens: 1 << 20, ..ModelState::default() });
    replica
}

fn report(replica: &Replica, state: ModelState) {
    let worker = WorkerState { open: true, ..WorkerState::default() };
    let state = ModelState { condition: ModelCondition::Ready, ..state };
    replica.report(&worker, &state, Instant::now(), Duration::from_secs(9));
}

fn pool(name: &str, weight: u32) -> Arc<Pool> {
    Arc::new(Pool { name: name.into(), weight })
}

async fn ask(user: &str, text: &str) -> RoutedRequest {
    request(&json!({ "user": user, "messages": [{ "role": "user", "content": text }] })).await.unwrap()
}

#[tokio::test]
async fn a_conversation_goes_where_it_went_before() {
    let model = model(Stickiness::Prefix);
    let pool = pool("p", 1);
    let replicas: Vec<_> = (0..4).map(|number| join(&model, number, &pool)).collect();
    for conversation in 0..20 {
        let text = format!("{conversation}").repeat(900);
        let first = ask("u", &text).await;
        let chosen = model.choose(&first, &[]).unwrap();
        model.sent(&chosen, &first);
        for turn in 1..5 {
            let next = ask("u", &format!("{text}{}", "more".repeat(100 * turn))).await;
            assert!(Arc::ptr_eq(&model.choose(&next, &[]).unwrap(), &chosen));
            model.sent(&chosen, &next);
        }
        let elsewhere = model.choose(&first, std::slice::from_ref(&chosen)).unwrap();
        assert!(!Arc::ptr_eq(&elsewhere, &chosen), "one that was tried is left out");
    }
    // What a process knew is gone with it.
    let request = ask("u", &"x".repeat(2000)).await;
    model.sent(&replicas[2], &request);
    assert!(Arc::ptr_eq(&model.choose(&request, &[]).unwrap(), &replicas[2]));
    model.forget(&replicas[2]);
    let places: std::collections::HashSet<_> =
        (0..8).map(|_| model.choose(&request, &[]).unwrap().place).collect();
    assert_eq!(places.len(), 4);
}

#[tokio::test]
async fn only_who_can_be_asked_is() {
    let model = model(Stickiness::Prefix);
    let pool = pool("p", 1);
    let replicas: Vec<_> = (0..3).map(|number| join(&model, number, &pool)).collect();
    let request = ask("u", "hello").await;
    replicas[0].set_ready(false);
    replicas[1].worker.refuses();
    for _ in 0..6 {
        assert!(Arc::ptr_eq(&model.choose(&request, &[]).unwrap(), &replicas[2]));
    }
    for _ in 0..3 {
        replicas[2].worker.failed(Instant::now());
    }
    assert!(model.choose(&request, &[]).is_none());
    model.leave(&replicas[2].worker);
    assert_eq!(model.replicas().len(), 2);
    let again = join(&model, 7, &pool);
    assert_eq!(again.place, replicas[2].place, "places are used again");
}

#[tokio::test]
async fn a_worker_that_stands_still_is_not_asked() {
    let model = model(Stickiness::Prefix);
    let replica = join(&model, 0, &pool("p", 1));
    let (start, stall) = (Instant::now(), Duration::from_secs(30));
    let worker = WorkerState { open: true, instance: "i".into(), ..WorkerState::default() };
    let say = |steps, has_work, after| {
        let condition = ModelCondition::Ready;
        let state = ModelState { condition, steps, has_work, ..ModelState::default() };
        replica.report(&worker, &state, start + Duration::from_secs(after), stall);
        replica.is_ready()
    };
    assert!(say(7, true, 0) && say(7, true, 29) && say(8, true, 31) && say(8, true, 60));
    assert!(!say(8, true, 62), "it has work, and no step for 31 s");
    assert!(say(8, false, 63), "it has none");
    assert!(say(8, true, 64) && say(8, true, 90) && !say(8, true, 94));
    assert!(say(9, true, 95));
}

#[tokio::test]
async fn load_comes_from_reports_and_from_what_was_sent_since() {
    let model = model(Stickiness::Prefix);
    let replica = join(&model, 0, &pool("p", 1));
    let _first = replica.begin(100);
    report(&replica, ModelState { running: 3, waiting: 2, kv_usage: 0.5, ..ModelState::default() });
    let mut second = replica.begin(50);
    let seen = replica.candidate(1);
    assert_eq!((seen.answers, seen.waiting, seen.pending_bytes, seen.kv_usage), (6, 2, 150, 500));
    second.first_byte();
    assert_eq!(replica.candidate(1).pending_bytes, 100);
    drop(second);
    assert_eq!((replica.candidate(1).answers, replica.in_flight()), (5, 1));
}

#[tokio::test]
async fn pools_get_their_shares_and_conversations_stay_in_theirs() {
    let model = model(Stickiness::Prefix);
    let (stable, canary, spare) = (pool("stable", 90), pool("canary", 10), pool("spare", 0));
    let replicas = [join(&model, 0, &stable), join(&model, 1, &canary), join(&model, 2, &spare)];
    let mut counts = [0; 3];
    for number in 0..2000 {
        let first = ask("u", &format!("conversation {number}")).await;
        let chosen = model.choose(&first, &[]).unwrap();
        assert!(Arc::ptr_eq(&chosen, &model.choose(&first, &[]).unwrap()));
        counts[usize::from(chosen.place)] += 1;
    }
    assert!((120..280).contains(&counts[1]) && counts[2] == 0, "{counts:?}");
    replicas[0].set_ready(false);
    replicas[1].set_ready(false);
    assert_eq!(model.choose(&ask("u", "x").await, &[]).unwrap().place, 2, "if there is no other");
}

#[tokio::test]
async fn a_user_stays_at_a_worker_if_the_model_is_sticky() {
    let model = model(Stickiness::User);
    let pool = pool("p", 1);
    let replicas: Vec<_> = (0..5).map(|number| join(&model, number, &pool)).collect();
    let mut before = std::collections::HashMap::new();
    for number in 0..100 {
        let user = format!("user-{number}");
        let chosen = model.choose(&ask(&user, "a").await, &[]).unwrap();
        assert!(Arc::ptr_eq(&chosen, &model.choose(&ask(&user, "b").await, &[]).unwrap()));
        before.insert(user, chosen.place);
    }
    let prefix = self::model(Stickiness::Prefix);
    let others: Vec<_> = (0..5).map(|number| join(&prefix, number, &pool)).collect();
    let mut sticky = ask("user-1", "a").await;
    sticky.is_sticky = true;
    let chosen: std::collections::HashSet<_> =
        (0..5).map(|_| prefix.choose(&sticky, &[]).unwrap().place).collect();
    assert_eq!((chosen.len(), others.len()), (1, 5), "a request can ask for it, too");
    replicas[3].set_ready(false);
    for (user, place) in before {
        let after = model.choose(&ask(&user, "c").await, &[]).unwrap().place;
        assert!(after == place || place == 3, "only users of the one that left move");
    }
}

#[tokio::test]
async fn who_waits_is_woken_counted_and_told_when_it_is_too_late() {
    let model = Arc::new(model(Stickiness::Prefix));
    let queue = QueueConfig { max_waiting: 1, timeout: Duration::from_secs(60) };
    let (waiting, request) = (Arc::clone(&model), ask("u", "x").await);
    let waits = tokio::spawn(async move {
        waiting.wait(&queue, Duration::from_secs(3), || waiting.choose(&request, &[])).await
    });
    while model.num_waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let retry = Duration::from_secs(3);
    let full = model.wait(&queue, retry, || None::<()>).await.unwrap_err();
    assert_eq!(full.code(), Some("queue_full"));
    let replica = join(&model, 0, &pool("p", 1));
    model.wake();
    assert!(Arc::ptr_eq(&waits.await.unwrap().unwrap(), &replica));
    assert_eq!(model.num_waiting(), 0);
    let queue = QueueConfig { timeout: Duration::from_millis(1), ..queue };
    let late = model.wait(&queue, retry, || None::<()>).await.unwrap_err();
    assert_eq!((late.code(), model.num_waiting()), (Some("no_worker_ready"), 0));
}

#[tokio::test]
async fn what_was_counted_is_not_lost_with_who_counted() {
    let model = model(Stickiness::Prefix);
    let replica = join(&model, 0, &pool("p", 1));
    let say = |instance: &str, generation_tokens| {
        let worker = WorkerState { open: true, instance: instance.into(), ..WorkerState::default() };
        let totals = ModelTotals { generation_tokens, ..ModelTotals::default() };
        let state = ModelState { totals, ..ModelState::default() };
        replica.report(&worker, &state, Instant::now(), Duration::from_secs(9));
        model.totals().generation_tokens
    };
    assert_eq!((say("first", 5), say("first", 7)), (5, 7));
    assert_eq!((say("second", 1), say("second", 3)), (8, 10), "it began anew");
    model.leave(&replica.worker);
    assert_eq!(model.totals().generation_tokens, 10);
}

//! Who asks, how much they may, and what is entered of it in a real database.

use std::collections::HashMap;

use tokio::sync::mpsc;
use vlinders_consumers::{Authenticator, Limits, NamedKeys, RateLimiter, RateLimits};
use vlinders_head::HeadParts;
use vlinders_ledger::{Ledger, LedgerConfig, UsageQuery, UsageRow, usage};
use vlinders_testkit::Postgres;

use crate::support::{Act, MockWorker, TestHead, read};

fn keys(parts: &mut HeadParts) {
    let keys = NamedKeys::parse("blue sk-blue\nred sk-red").unwrap();
    parts.authenticator = Authenticator::open().with_keys(keys);
}

#[tokio::test]
async fn limits_are_those_of_the_consumer_and_count_what_was_used() {
    let worker = MockWorker::start("a").await;
    let head = TestHead::equipped(
        &worker,
        |_| {},
        |parts, metrics| {
            keys(parts);
            let limits =
                |requests_per_minute, tokens_per_minute| Limits { requests_per_minute, tokens_per_minute };
            let red = HashMap::from([("red".to_owned(), limits(2, 0))]);
            let limits = RateLimits::new(limits(1000, 1000), red).unwrap();
            parts.limiter = Some(RateLimiter::in_memory(limits, metrics.registry()));
        },
    )
    .await;
    let ask = async |key: &str| head.chat("hello", false).bearer_auth(key).send().await.unwrap();
    for left in ["1", "0"] {
        let answer = ask("sk-red").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-ratelimit-limit-requests"], "2");
        assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], left);
        assert!(answer.headers().get("x-ratelimit-limit-tokens").is_none(), "red has no limit of tokens");
    }
    let refused = ask("sk-red").await;
    assert_eq!(refused.headers()["x-ratelimit-remaining-requests"], "0");
    let retry: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&retry), "{retry}");
    let (status, answer) = read(refused).await;
    assert_eq!((status, answer["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")));
    assert_eq!(worker.count(), 2, "a refused request costs no worker anything");

    // The estimate is replaced by the nine tokens that the worker has counted.
    assert_eq!(ask("sk-blue").await.status(), 200, "others are not touched");
    let mut left = 0;
    for _ in 0..100 {
        let answer = ask("sk-blue").await;
        left = answer.headers()["x-ratelimit-remaining-tokens"].to_str().unwrap().parse().unwrap();
        if left < 990 {
            break;
        }
    }
    assert!((900..990).contains(&left), "{left}");
    assert_eq!(head.ask("no key").await.0, 401);
}

#[tokio::test]
async fn every_request_is_one_row_of_the_ledger() {
    let database = Postgres::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url: vlinders_ledger::DatabaseUrl = database.url().parse().unwrap();
    let metrics = vlinders_edge::Metrics::new(&[vlinders_ledger::DELIVERY_SECONDS]);
    let config = LedgerConfig::new(url.clone(), folder.path().join("spool"));
    let ledger = Ledger::start(config, &metrics).await.unwrap();
    let worker = MockWorker::start("a").await;
    let limits = Limits { requests_per_minute: 3, tokens_per_minute: 0 };
    let mut head = TestHead::equipped(
        &worker,
        |_| {},
        |parts, metrics| {
            keys(parts);
            let limits = RateLimits::new(limits, HashMap::new()).unwrap();
            parts.limiter = Some(RateLimiter::in_memory(limits, metrics.registry()));
            parts.ledger = Some(ledger);
        },
    )
    .await;
    let ask = |stream, key: &str| head.chat("hello", stream).bearer_auth(key);

    assert_eq!(ask(false, "sk-blue").send().await.unwrap().status(), 200);
    assert!(ask(true, "sk-blue").send().await.unwrap().text().await.unwrap().ends_with("[DONE]\n\n"));
    // One whose client leaves after two tokens.
    let (tell, told) = mpsc::channel(4);
    worker.will([Act::Told(told)]);
    tell.send("data: {\"a\":1}\n\n: usage 9 1 2\n\n").await.unwrap();
    let mut left = ask(true, "sk-red").send().await.unwrap();
    left.chunk().await.unwrap().unwrap();
    drop(left);
    worker.until_left().await;
    // One that breaks off, one that is a mistake, and one too many.
    worker.will([Act::Cut("data: {\"a\":1}\n\n: usage 7 0 1\n\n"), Act::Refuse(400, "invalid_value")]);
    assert!(ask(true, "sk-red").send().await.unwrap().text().await.unwrap().contains("worker_failed"));
    for status in [400, 429] {
        assert_eq!(ask(false, "sk-red").send().await.unwrap().status(), status);
    }
    // Who is not known is not entered.
    assert_eq!(ask(false, "sk-green").send().await.unwrap().status(), 401);

    head.stop();
    assert!(head.stopped().await);
    let rows = usage(&url, &UsageQuery::default()).await.unwrap();
    let day = rows[0].day;
    assert!(day.is_some());
    let row = |consumer: &str, requests, tokens: [u64; 3]| UsageRow {
        day,
        consumer: Some(consumer.to_owned()),
        model: Some("parrot".to_owned()),
        requests,
        prompt_tokens: tokens[0],
        cached_tokens: tokens[1],
        completion_tokens: tokens[2],
        ..UsageRow::default()
    };
    let blue = row("blue", 2, [12, 8, 6]);
    let red = UsageRow { aborted: 1, failed: 1, refused: 2, ..row("red", 4, [16, 1, 3]) };
    assert_eq!(rows, [blue, red]);
    let entered = database.sql("SELECT outcome, status, route, worker IS NULL, first_byte_seconds IS NULL FROM usage_entries WHERE consumer = 'red' ORDER BY id");
    insta::assert_snapshot!(entered.unwrap());
}

//! Reports against numbers added up by hand.

use super::*;
use crate::{GroupBy, UsageQuery, UsageRow, usage};

type Sum<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, [u64; 7]);

async fn check(world: &World, query: UsageQuery, expected: &[Sum<'_>]) {
    let url = world.postgres.url().parse().unwrap();
    let rows = usage(&url, &query).await.unwrap();
    let day = |row: &UsageRow| row.day.map(|day| day.to_string());
    let days: Vec<_> = rows.iter().map(day).collect();
    let rows: Vec<Sum<'_>> = rows
        .iter()
        .zip(&days)
        .map(|(row, day)| (day.as_deref(), row.consumer.as_deref(), row.model.as_deref(), row.numbers()))
        .collect();
    assert_eq!(rows, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_added_up_by_what_is_asked_for() {
    let world = World::new();
    let (ledger, _) = world.ledger().await;
    let one = |consumer: &str, model: &str, at: &str, outcome, tokens: [Option<u32>; 3]| Entry {
        consumer: consumer.to_owned(),
        model: model.to_owned(),
        received_at: time(at),
        outcome,
        prompt_tokens: tokens[0],
        cached_tokens: tokens[1],
        completion_tokens: tokens[2],
        ..entry(0)
    };
    for entry in [
        one("anna", "llama", "2026-03-01T00:00:00Z", Outcome::Finished, [Some(10), Some(4), Some(5)]),
        one("anna", "llama", "2026-03-01T23:59:59.999999Z", Outcome::Aborted, [Some(20), None, Some(6)]),
        one("anna", "qwen", "2026-03-01T12:00:00Z", Outcome::Failed, [Some(u32::MAX), None, None]),
        one("anna", "qwen", "2026-03-01T12:00:00Z", Outcome::Finished, [Some(u32::MAX), None, None]),
        one("bob", "llama", "2026-03-01T12:00:00Z", Outcome::Refused, [None, None, None]),
        one("bob", "llama", "2026-03-02T00:00:00Z", Outcome::Finished, [Some(1), Some(1), Some(1)]),
    ] {
        ledger.record(entry);
    }
    ledger.close(PATIENCE).await;
    let (first, second) = (Some("2026-03-01"), Some("2026-03-02"));
    let (anna, bob, llama, qwen) = (Some("anna"), Some("bob"), Some("llama"), Some("qwen"));
    let by_all = [
        (first, anna, llama, [2, 1, 0, 0, 30, 4, 11]),
        (first, anna, qwen, [2, 0, 1, 0, 8_589_934_590, 0, 0]),
        (first, bob, llama, [1, 0, 0, 1, 0, 0, 0]),
        (second, bob, llama, [1, 0, 0, 0, 1, 1, 1]),
    ];
    check(&world, UsageQuery::default(), &by_all).await;
    let group_by = GroupBy { day: false, consumer: true, model: false };
    let by_consumer =
        [(None, anna, None, [4, 1, 1, 0, 8_589_934_620, 4, 11]), (None, bob, None, [2, 0, 0, 1, 1, 1, 1])];
    check(&world, UsageQuery { group_by, ..UsageQuery::default() }, &by_consumer).await;
    // the end is not part of a span, its beginning is
    let (from, to) = (Some(time("2026-03-01T12:00:00Z")), Some(time("2026-03-02T00:00:00Z")));
    let model = Some("llama".to_owned());
    let expected = [(first, anna, llama, [1, 1, 0, 0, 20, 0, 6]), (first, bob, llama, [1, 0, 0, 1, 0, 0, 0])];
    check(&world, UsageQuery { from, to, model, ..UsageQuery::default() }, &expected).await;
    let consumer = Some("bob".to_owned());
    check(&world, UsageQuery { from: to, consumer, ..UsageQuery::default() }, &by_all[3..]).await;
    check(&world, UsageQuery { model: Some("none".to_owned()), ..UsageQuery::default() }, &[]).await;
    let view = "select count(*), sum(requests), sum(aborted), sum(prompt_tokens) from usage_daily";
    assert_eq!(world.sql(view), "4|6|1|8589934621");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_missing_and_never_the_password() {
    let mut world = World::new();
    let url = world.postgres.url().parse().unwrap();
    let error = usage(&url, &UsageQuery::default()).await.unwrap_err();
    assert!(matches!(error, LedgerError::NoTables(_)), "{error}");
    let wrong = world.postgres.url().replace("butterfly-7%21", "wrong-password").parse().unwrap();
    let denied = usage(&wrong, &UsageQuery::default()).await.unwrap_err();
    assert!(denied.to_string().contains("authentication failed"), "{denied}");
    world.postgres.stop();
    let away = usage(&url, &UsageQuery::default()).await.unwrap_err();
    let debug = format!("{:?} {away} {away:?} {error:?} {denied} {denied:?}", world.config());
    for secret in [world.postgres.password(), "butterfly", "wrong-password"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}

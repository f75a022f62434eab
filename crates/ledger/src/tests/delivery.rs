//! What arrives in a database that is there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_row_says_what_the_entry_said() {
    let world = World::new();
    let (ledger, metrics) = world.ledger().await;
    let whole = Entry { received_at: time("2026-03-01T23:59:59.123456Z"), ..entry(7) };
    let refused = Entry {
        consumer: "a\0b".to_owned(),
        model: "é".repeat(100_000),
        worker: None,
        prompt_tokens: Some(u32::MAX),
        cached_tokens: None,
        completion_tokens: None,
        status: 429,
        outcome: Outcome::Refused,
        received_at: DateTime::<Utc>::MAX_UTC,
        first_byte: None,
        duration: Duration::MAX,
        ..entry(8)
    };
    let id = whole.id;
    ledger.record(whole);
    ledger.record(refused);
    ledger.close(PATIENCE).await;
    let rows = world.sql(
        "set timezone = 'UTC'; select request_id, consumer, length(model), route, worker, prompt_tokens, cached_tokens, \
         completion_tokens, status, outcome, received_at, first_byte_seconds, duration_seconds from usage_entries order by request_id",
    );
    assert_eq!(
        rows,
        "req-7|anna|5|/v1/chat/completions|10.0.0.7:8000|7|1|2|200|finished|2026-03-01 23:59:59.123456+00|0.25|1.5\n\
         req-8|a\u{fffd}b|256|/v1/chat/completions||4294967295|||429|refused|9999-12-31 23:59:59.999999+00||1.8446744073709552e+19"
    );
    assert_eq!(world.sql("select id from usage_entries where request_id = 'req-7'"), id.to_string());
    assert_eq!((delivered(&metrics), dropped(&metrics), pending(&metrics)), (2.0, 0.0, 0.0));
    assert_eq!(value(&metrics, "vlinders_ledger_database_up"), 1.0);
    assert_eq!(value(&metrics, "vlinders_ledger_spool_bytes"), 0.0);
    assert!(metrics.render().contains("vlinders_ledger_delivery_seconds_bucket"));
    assert!(world.files(".rows").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_start_at_once_in_an_empty_database() {
    let world = World::new();
    let start = |name: &str| {
        world.ledger_with(LedgerConfig { spool: world.folder.path().join(name), ..world.config() })
    };
    let (first, second) = tokio::join!(start("one"), start("two"));
    let ((first, _), (second, _)) = (first.unwrap(), second.unwrap());
    for number in 0..500 {
        first.record(entry(number));
        second.record(entry(500 + number));
    }
    tokio::join!(first.close(PATIENCE), second.close(PATIENCE));
    assert_eq!(world.counted(), "1000|1000");
    assert_eq!(world.sql("select count(*) from vlinders_migrations"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_database_refuses_holds_up_no_other() {
    let world = World::new();
    let (ledger, _) = world.ledger().await;
    ledger.record(entry(0));
    ledger.close(PATIENCE).await;
    world.sql("alter table usage_entries add check (consumer <> 'poison')");
    let config = LedgerConfig { batch_rows: 100, interval: PATIENCE, ..world.config() };
    let (ledger, metrics) = world.ledger_with(config).await.unwrap();
    let poison = Entry { consumer: "poison".to_owned(), ..entry(1000) };
    let id = poison.id;
    for number in 1..100 {
        if number == 37 {
            ledger.record(poison.clone());
        }
        ledger.record(entry(number));
    }
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "100|100");
    assert_eq!((delivered(&metrics), dropped(&metrics), pending(&metrics)), (99.0, 1.0, 0.0));
    let kept = std::fs::read_to_string(world.spool().join("rejected.jsonl")).unwrap();
    assert!(kept.lines().count() == 1 && kept.contains(&id.to_string()), "{kept}");
}

#[tokio::test]
async fn more_than_can_be_queued_is_counted_and_holds_up_nobody() {
    let world = World::new();
    let config = LedgerConfig { queue_rows: 10, ..world.config() };
    let (ledger, metrics) = world.ledger_with(config).await.unwrap();
    // nothing else runs on this thread until the next await
    for number in 0..100 {
        ledger.record(entry(number));
    }
    assert_eq!((dropped(&metrics), pending(&metrics)), (90.0, 10.0));
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "10|10");
    ledger.record(entry(100));
    assert_eq!((dropped(&metrics), pending(&metrics)), (91.0, 0.0));
}

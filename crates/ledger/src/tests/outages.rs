//! What arrives in a database that comes and goes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_on_disk_for_a_database_that_is_away_at_the_start() {
    let mut world = World::new();
    world.postgres.stop();
    let (ledger, metrics) = world.ledger().await;
    for number in 0..100 {
        ledger.record(entry(number));
    }
    until("all rows on disk", || spooled(&world.spool()) == 100).await;
    assert_eq!((delivered(&metrics), pending(&metrics)), (0.0, 100.0));
    assert_eq!(value(&metrics, "vlinders_ledger_database_up"), 0.0);
    until("their bytes are counted", || value(&metrics, "vlinders_ledger_spool_bytes") > 10_000.0).await;
    world.postgres.restart().unwrap();
    until("all rows delivered", || delivered(&metrics) == 100.0).await;
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "100|100");
    assert!(world.files(".rows").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_in_between_has_each_row_once() {
    let mut world = World::new();
    let config = LedgerConfig { batch_rows: 50, queue_rows: 20_000, ..world.config() };
    let (ledger, metrics) = world.ledger_with(config).await.unwrap();
    for number in 0..10_000 {
        ledger.record(entry(number));
        if number == 4_000 || number == 8_000 {
            let before = delivered(&metrics);
            until("rows are being delivered", || delivered(&metrics) > before).await;
            world.postgres.stop();
            world.postgres.restart().unwrap();
        }
    }
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "10000|10000");
    assert_eq!((delivered(&metrics), dropped(&metrics), pending(&metrics)), (10_000.0, 0.0, 0.0));
}

#[test]
fn a_process_that_crashed_leaves_its_rows_to_the_next() {
    let mut world = World::new();
    world.postgres.stop();
    let first = tokio::runtime::Runtime::new().unwrap();
    let ledger = first.block_on(async {
        let (ledger, _) = world.ledger().await;
        for number in 0..1000 {
            ledger.record(entry(number));
        }
        until("all rows on disk", || spooled(&world.spool()) == 1000).await;
        ledger
    });
    // its tasks are gone before anybody tells them that the end is near
    first.shutdown_timeout(PATIENCE);
    drop(ledger);
    world.postgres.restart().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (ledger, metrics) = world.ledger().await;
        ledger.close(PATIENCE).await;
        assert_eq!(delivered(&metrics), 1000.0);
    });
    assert_eq!(world.counted(), "1000|1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_dropped_or_closed_in_an_outage_leaves_all_on_disk() {
    let mut world = World::new();
    world.postgres.stop();
    let (ledger, _) = world.ledger().await;
    (0..10).for_each(|number| ledger.record(entry(number)));
    drop(ledger);
    let (ledger, metrics) = world.ledger().await;
    assert_eq!(pending(&metrics), 10.0);
    (10..20).for_each(|number| ledger.record(entry(number)));
    ledger.close(Duration::ZERO).await;
    assert_eq!(spooled(&world.spool()), 20);
    world.postgres.restart().unwrap();
    let (ledger, _) = world.ledger().await;
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "20|20");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_sent_again_after_a_lost_answer_are_there_once() {
    let mut world = World::new();
    world.postgres.stop();
    let (ledger, _) = world.ledger().await;
    (0..10).for_each(|number| ledger.record(entry(number)));
    until("all rows on disk", || spooled(&world.spool()) == 10).await;
    let saved: Vec<_> =
        world.files(".rows").into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    world.postgres.restart().unwrap();
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "10|10");
    // the process ended between the commit and the removal of its files
    for (bytes, path) in saved {
        std::fs::write(path, bytes).unwrap();
    }
    let (ledger, metrics) = world.ledger().await;
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "10|10");
    assert_eq!(delivered(&metrics), 10.0);
    assert!(world.files(".rows").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_for_a_permission_that_is_missing() {
    let world = World::new();
    world.sql("create role clerk login password 'butterfly-7!'");
    let url = world.postgres.url().replace("vlinders:", "clerk:").parse().unwrap();
    let config = LedgerConfig { database_url: url, ..world.config() };
    let (ledger, metrics) = world.ledger_with(config).await.unwrap();
    ledger.record(entry(1));
    until("the row is on disk", || spooled(&world.spool()) == 1).await;
    assert_eq!(value(&metrics, "vlinders_ledger_database_up"), 0.0);
    world.sql("grant create on schema public to clerk");
    ledger.close(PATIENCE).await;
    assert_eq!((delivered(&metrics), dropped(&metrics)), (1.0, 0.0));
    assert_eq!(world.counted(), "1|1");
}

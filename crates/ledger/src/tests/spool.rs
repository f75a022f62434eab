//! A spool that is full, gone, shared, torn or damaged.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_the_limit_is_dropped_and_counted() {
    let mut world = World::new();
    world.postgres.stop();
    let config = LedgerConfig { max_spool_bytes: 20_000, queue_rows: 1000, batch_rows: 10, ..world.config() };
    let (ledger, metrics) = world.ledger_with(config).await.unwrap();
    let mut recorded = 0;
    while dropped(&metrics) == 0.0 {
        (0..100).for_each(|number| ledger.record(entry(recorded + number)));
        recorded += 100;
        // room in the queue, so that the drops are those of the disk
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(recorded < 100_000, "nothing is ever dropped");
    }
    assert!(value(&metrics, "vlinders_ledger_spool_bytes") <= 20_000.0);
    world.postgres.restart().unwrap();
    ledger.close(PATIENCE).await;
    assert_eq!(delivered(&metrics) + dropped(&metrics), f64::from(recorded));
    assert!(delivered(&metrics) > 1000.0, "disk and memory were full");
    assert_eq!(world.counted(), format!("{0}|{0}", delivered(&metrics)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_stops_no_delivery() {
    let world = World::new();
    let (ledger, metrics) = world.ledger().await;
    std::fs::rename(world.spool(), world.folder.path().join("gone")).unwrap();
    (0..100).for_each(|number| ledger.record(entry(number)));
    ledger.close(PATIENCE).await;
    assert_eq!(world.counted(), "100|100");
    assert_eq!((delivered(&metrics), dropped(&metrics), pending(&metrics)), (100.0, 0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_belongs_to_one_process() {
    let world = World::new();
    let (first, _) = world.ledger().await;
    let error = world.ledger_with(world.config()).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, LedgerError::SpoolInUse(path) if *path == world.spool()), "{error}");
    first.close(PATIENCE).await;
    let (second, _) = world.ledger().await;
    second.close(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_can_not_be_made_is_an_error_at_the_start() {
    let world = World::new();
    std::fs::write(world.spool(), "a file").unwrap();
    let error = world.ledger_with(world.config()).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, LedgerError::Spool { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn torn_and_damaged_files_lose_no_row_that_can_be_read() {
    let mut world = World::new();
    world.postgres.stop();
    // four files of three rows, each left by a process of its own
    for file in 0..4 {
        let (ledger, _) =
            world.ledger_with(LedgerConfig { interval: PATIENCE, ..world.config() }).await.unwrap();
        (0..3).for_each(|number| ledger.record(entry(file * 3 + number)));
        ledger.close(Duration::ZERO).await;
    }
    let files = world.files(".rows");
    let change = |idx: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&files[idx]).unwrap();
        change(&mut bytes);
        std::fs::write(&files[idx], &bytes).unwrap();
        bytes
    };
    assert_eq!(files.len(), 4);
    change(0, &|bytes| bytes.truncate(bytes.len() - 1));
    let payload = change(1, &|bytes| bytes[20] ^= 1);
    let header = change(2, &|bytes| bytes[0] ^= 1);
    world.postgres.restart().unwrap();
    let (ledger, metrics) = world.ledger().await;
    assert_eq!(pending(&metrics) + delivered(&metrics), 7.0);
    ledger.close(PATIENCE).await;
    let rows =
        world.sql("select string_agg(substr(request_id, 5), ' ' order by prompt_tokens) from usage_entries");
    assert_eq!(rows, "0 1 4 5 9 10 11");
    assert!(world.files(".rows").is_empty());
    let kept: Vec<_> = world.files(".damaged").iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(kept, [payload, header]);
    // they are not read again, and new files do not take their names
    let (ledger, metrics) = world.ledger().await;
    assert_eq!(pending(&metrics), 0.0);
    ledger.record(entry(12));
    ledger.close(PATIENCE).await;
    assert_eq!(world.files(".damaged").len(), 2);
    assert_eq!(world.counted(), "8|8");
}

//! What is logged, by us and by what we use: trouble is, a password is not.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// All events, of all levels, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Visit for Log {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        let _ = writeln!(self.0.lock().unwrap(), "{value:?}");
    }
}

// the tasks of a ledger run on this thread, so that this log is theirs
#[tokio::test]
async fn a_wrong_password_is_logged_as_wrong_and_not_shown() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let world = World::new();
    let url = world.postgres.url().replace("butterfly-7%21", "wrong%21password");
    let config = LedgerConfig { database_url: url.parse().unwrap(), ..world.config() };
    let (ledger, metrics) = world.ledger_with(config).await.unwrap();
    ledger.record(entry(1));
    until("the trouble is logged", || log.0.lock().unwrap().contains("takes no rows")).await;
    ledger.close(Duration::ZERO).await;
    assert_eq!(delivered(&metrics), 0.0);
    let (ledger, metrics) = world.ledger().await;
    ledger.close(PATIENCE).await;
    assert_eq!(delivered(&metrics), 1.0);
    let log = log.0.lock().unwrap();
    assert!(
        log.contains("authentication failed") && log.contains("1 usage rows of a former process"),
        "{log}"
    );
    for secret in ["wrong%21password", "wrong!password", "butterfly"] {
        assert!(!log.contains(secret), "{log}");
    }
}

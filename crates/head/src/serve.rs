//! From the first connection to the last: serve, leave, drain, stop.

use std::time::Duration;

use tokio::net::TcpListener;
use vlinders_edge::Connections;

use crate::head::Head;
use crate::router::{dashboard_router, router};

/// How often values recorded for histograms are sorted into buckets.
const UPKEEP: Duration = Duration::from_secs(1);

/// After the grace time, for error events to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// For the database to take the last rows of the ledger; the rest stays on disk.
const LEDGER_PATIENCE: Duration = Duration::from_secs(5);

/// Serve `head` on `listener` until `shutdown`. Then readiness goes off while requests are still taken for the delay of
/// the configuration; after it new ones are refused, and running ones finish within the grace time. Those that do not
/// are ended with an error. Returns whether all finished by themselves.
pub async fn serve(listener: TcpListener, head: Head, shutdown: impl Future<Output = ()>) -> bool {
    let connections = Connections::serve(listener, router(head.clone()), head.config().connections);
    let upkeep = upkeep(&head);
    tokio::pin!(upkeep);
    tokio::select! {
        () = shutdown => {}
        () = &mut upkeep => {}
    }
    let finished = tokio::select! {
        finished = drain(&head) => finished,
        () = upkeep => false,
    };
    connections.close(LAST_WORDS).await;
    if let Some(ledger) = head.ledger() {
        ledger.close(LEDGER_PATIENCE).await;
    }
    finished
}

/// Serve the dashboard of `head` on `listener`, until the head leaves.
pub async fn serve_dashboard(listener: TcpListener, head: Head) {
    let connections = Connections::serve(listener, dashboard_router(head.clone()), head.config().connections);
    head.leaving().cancelled().await;
    connections.close(LAST_WORDS).await;
}

async fn drain(head: &Head) -> bool {
    let config = head.config();
    head.leaving().cancel();
    let (delay, grace) = (config.shutdown_delay, config.shutdown_grace);
    tracing::info!(
        in_flight = head.admission().in_flight(),
        delay = delay.as_secs_f64(),
        grace = grace.as_secs_f64(),
        "shutting down"
    );
    tokio::time::sleep(delay).await;
    head.admission().close();
    if tokio::time::timeout(grace, head.admission().idle()).await.is_ok() {
        return true;
    }
    tracing::warn!(
        in_flight = head.admission().in_flight(),
        "the grace time is over, ending what still runs"
    );
    head.ending().cancel();
    let _ = tokio::time::timeout(LAST_WORDS, head.admission().idle()).await;
    false
}

async fn upkeep(head: &Head) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        head.metrics().registry().run_upkeep();
    }
}

//! From the first connection to the last: serve, drain, stop.

use std::time::Duration;

use tokio::net::TcpListener;
use vlinders_edge::Connections;
use vlinders_engine::EngineHandle;

use crate::router::router;
use crate::server::Server;

/// How often values recorded for histograms are sorted into buckets, and steps are looked at.
const UPKEEP: Duration = Duration::from_secs(1);

/// After the last request, for a model to put away what it holds: its other ranks have to hear that it ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// After the grace time, for the error events to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serve `server` on `listener` until `shutdown`. Then readiness goes off and new requests are refused, while running
/// ones finish within the grace time of the configuration; those that do not are ended with an error. Returns whether
/// all finished by themselves.
pub async fn serve(listener: TcpListener, server: Server, shutdown: impl Future<Output = ()>) -> bool {
    let connections = Connections::serve(listener, router(server.clone()), server.config().connections);
    tokio::select! {
        () = shutdown => {}
        () = upkeep(&server) => {}
    }
    let finished = drain(&server).await;
    connections.close(LAST_WORDS).await;
    finished
}

/// Probes are answered all the while, so that the platform sees that readiness is off.
async fn drain(server: &Server) -> bool {
    let grace = server.config().shutdown_grace;
    server.admission().close();
    tracing::info!(in_flight = server.admission().in_flight(), grace = grace.as_secs_f64(), "shutting down");
    for model in server.served() {
        model.engine.drain();
    }
    let quiet = async {
        server.admission().idle().await;
        for model in server.served() {
            model.engine.drained().await;
        }
    };
    if tokio::time::timeout(grace, quiet).await.is_ok() {
        let engines: Vec<_> = server.served().map(|model| model.engine.clone()).collect();
        let ended = tokio::task::spawn_blocking(move || engines.iter().for_each(EngineHandle::join));
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            tracing::warn!("a model does not let go of what it holds");
        }
        return true;
    }
    tracing::warn!(
        in_flight = server.admission().in_flight(),
        "the grace time is over, ending what still runs"
    );
    for model in server.served() {
        model.engine.abort_all("the server is shutting down");
    }
    let _ = tokio::time::timeout(LAST_WORDS, server.admission().idle()).await;
    false
}

async fn upkeep(server: &Server) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        server.metrics().registry().run_upkeep();
        server.conditions();
    }
}

//! Connections: how many, how patient, and how they end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::write_timeout::WriteTimeout;

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections; further ones wait to be accepted.
    pub max_connections: usize,
    /// From the first to the last byte of the headers of a request.
    pub header_timeout: Duration,
    /// How long a client may take no bytes of an answer.
    pub write_timeout: Duration,
}

/// Serves HTTP/1.1 on the connections of a listener.
#[derive(Debug, Clone)]
pub struct Connections {
    tracker: TaskTracker,
    /// No new requests on any connection.
    finish: CancellationToken,
    /// Drop all connections.
    abort: CancellationToken,
}

// === impl Connections ===

impl Connections {
    /// Accept and serve in the background.
    #[must_use]
    pub fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits) -> Self {
        let connections = Self {
            tracker: TaskTracker::new(),
            finish: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        let accepting = connections.clone();
        connections.tracker.spawn(async move { accepting.accept(listener, router, limits).await });
        connections
    }

    /// Accept nothing more, let running requests finish within `grace`, then close what is left.
    /// Returns whether all finished by themselves.
    pub async fn close(self, grace: Duration) -> bool {
        self.finish.cancel();
        self.tracker.close();
        let finished = tokio::time::timeout(grace, self.tracker.wait()).await.is_ok();
        self.abort.cancel();
        self.tracker.wait().await;
        finished
    }

    async fn accept(self, listener: TcpListener, router: Router, limits: ConnectionLimits) {
        let slots = Arc::new(Semaphore::new(limits.max_connections));
        loop {
            let next = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = self.finish.cancelled() => return,
                next = next => next,
            };
            let (Ok(slot), Ok((stream, peer))) = (slot, accepted) else {
                // Most often the process is out of file descriptors, which others must give back first.
                tracing::warn!("a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let connection = self.clone();
            let router = router.clone();
            self.tracker.spawn(async move {
                connection.run(stream, peer, router, limits).await;
                drop(slot);
            });
        }
    }

    async fn run(&self, stream: TcpStream, peer: SocketAddr, router: Router, limits: ConnectionLimits) {
        // Tokens are small and should not wait for each other.
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
        let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(axum::body::Body::new)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .serve_connection(stream, TowerToHyperService::new(service));
        tokio::pin!(connection);
        let mut finishing = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%peer, %error, "a connection ended early");
                    }
                    return;
                }
                () = self.finish.cancelled(), if !finishing => {
                    finishing = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        }
    }
}

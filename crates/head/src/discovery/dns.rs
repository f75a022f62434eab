//! Workers behind a DNS name with one address for each, such as a headless service; asked for again and again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{Discovery, Pool, Stage, Target};

/// Asks for the addresses of `host:port`.
type Lookup = Box<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send>;

/// A name that is resolved every few seconds.
pub struct DnsDiscovery {
    pool: Arc<Pool>,
    /// `host:port`.
    authority: String,
    interval: Duration,
    lookup: Lookup,
}

// === impl DnsDiscovery ===

impl DnsDiscovery {
    /// Resolve `authority`, that is `host:port`, every `interval` with the resolver of the system.
    #[must_use]
    pub fn new(pool: Arc<Pool>, authority: String, interval: Duration) -> Self {
        let lookup: Lookup = Box::new(|authority| {
            async move { tokio::net::lookup_host(authority).await.map(Iterator::collect) }.boxed()
        });
        Self { pool, authority, interval, lookup }
    }

    async fn watch(self, found: watch::Sender<Vec<Target>>) {
        let mut failing = false;
        loop {
            match (self.lookup)(self.authority.clone()).await {
                Ok(addresses) => {
                    failing = false;
                    let targets = self.targets(addresses);
                    found.send_if_modified(|known| {
                        let changed = *known != targets;
                        *known = targets;
                        changed
                    });
                }
                // A name server that is away takes no worker with it: those that are gone are found to be so anyway.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(name = self.authority, %error, "workers can not be looked up; those known are kept");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = found.closed() => return,
            }
        }
    }

    fn targets(&self, mut addresses: Vec<SocketAddr>) -> Vec<Target> {
        addresses.sort_unstable();
        addresses.dedup();
        let target = |address: SocketAddr| Target {
            address: address.to_string(),
            name: None,
            pool: Arc::clone(&self.pool),
            stage: Stage::Ready,
        };
        addresses.into_iter().map(target).collect()
    }
}

impl Discovery for DnsDiscovery {
    fn run(self: Box<Self>, found: watch::Sender<Vec<Target>>) -> BoxFuture<'static, ()> {
        self.watch(found).boxed()
    }
}

impl std::fmt::Debug for DnsDiscovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsDiscovery").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn discovery(authority: &str) -> DnsDiscovery {
        let pool = Arc::new(Pool { name: "p".into(), weight: 1 });
        DnsDiscovery::new(pool, authority.into(), Duration::from_millis(1))
    }

    fn addresses(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|target| target.address.as_str()).collect()
    }

    #[tokio::test]
    async fn a_name_is_resolved_by_the_system() {
        let (found, mut targets) = watch::channel(Vec::new());
        let task = tokio::spawn(Box::new(discovery("localhost:8000")).run(found));
        let known = targets.wait_for(|targets| !targets.is_empty()).await.expect("found").clone();
        assert!(
            addresses(&known).iter().all(|address| ["127.0.0.1:8000", "[::1]:8000"].contains(address)),
            "{known:?}"
        );
        drop(targets);
        task.await.expect("it ends when nobody listens");
    }

    #[tokio::test]
    async fn addresses_come_and_go_and_an_error_changes_nothing() {
        let answers =
            ["10.0.0.2:80 10.0.0.1:80", "error", "10.0.0.1:80 10.0.0.2:80 10.0.0.1:80", "10.0.0.2:80"];
        let (told, asked) = (Mutex::new(answers.into_iter()), Arc::new(tokio::sync::Semaphore::new(0)));
        let permits = Arc::clone(&asked);
        let lookup: Lookup = Box::new(move |_| {
            let answer = told.lock().expect("whole").next();
            let permits = Arc::clone(&permits);
            async move {
                permits.acquire().await.expect("open").forget();
                match answer {
                    None | Some("error") => Err(io::Error::other("away")),
                    Some(list) => {
                        Ok(list.split(' ').map(|address| address.parse().expect("valid")).collect())
                    }
                }
            }
            .boxed()
        });
        let (found, mut targets) = watch::channel(Vec::new());
        tokio::spawn(Box::new(DnsDiscovery { lookup, ..discovery("x:80") }).run(found));
        asked.add_permits(1);
        targets.changed().await.expect("told");
        assert_eq!(addresses(&targets.borrow_and_update()), ["10.0.0.1:80", "10.0.0.2:80"]);
        // An error, and the same in another order: the next change is the fourth answer.
        asked.add_permits(3);
        targets.changed().await.expect("told");
        assert_eq!(addresses(&targets.borrow_and_update()), ["10.0.0.2:80"]);
    }
}

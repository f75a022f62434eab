//! Workers at addresses that the operator names.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{Discovery, Pool, Stage, Target};

/// A list that does not change.
#[derive(Debug, Clone)]
pub struct FixedDiscovery {
    /// What they belong to.
    pub pool: Arc<Pool>,
    /// `host:port` of each.
    pub addresses: Vec<String>,
}

impl Discovery for FixedDiscovery {
    fn run(self: Box<Self>, found: watch::Sender<Vec<Target>>) -> BoxFuture<'static, ()> {
        let target = |address: &String| Target {
            address: address.clone(),
            name: None,
            pool: Arc::clone(&self.pool),
            stage: Stage::Ready,
        };
        found.send_replace(self.addresses.iter().map(target).collect());
        async move { found.closed().await }.boxed()
    }
}

//! Where workers are: one trait, and the ways to find them.

mod dns;
mod fixed;
mod kubernetes;

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::sync::watch;

pub use self::{
    dns::DnsDiscovery,
    fixed::FixedDiscovery,
    kubernetes::{KubernetesDiscovery, KubernetesError, ServicePort},
};

/// A place where a worker is, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, an IPv6 address in brackets.
    pub address: String,
    /// What people call it, such as the name of its pod.
    pub name: Option<String>,
    /// The pool it belongs to.
    pub pool: Arc<Pool>,
    /// What the platform says of it.
    pub stage: Stage,
}

/// Workers that are found in the same way. Each model's requests are split among its pools by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Unique among pools.
    pub name: String,
    /// Its share of a model's requests, against the weights of the other pools that have it.
    pub weight: u32,
}

/// What a platform says of a target; most ways to find workers know only [`Stage::Ready`], and the worker itself says
/// the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It may be asked.
    Ready,
    /// It exists and should not be asked yet, or not now.
    NotReady,
    /// It is being ended and still serves what it has.
    Terminating,
}

/// Finds workers for as long as it runs.
pub trait Discovery: Send + 'static {
    /// Tell all targets, and again whenever they are others. Ends when nobody listens any more.
    fn run(self: Box<Self>, found: watch::Sender<Vec<Target>>) -> BoxFuture<'static, ()>;
}

//! Many workers behind one address: finds them, knows how they are, and sends each request where it is best served.
//!
//! ```no_run
//! use std::{future, sync::Arc};
//! use vlinders_head::{FixedDiscovery, Head, HeadConfig, HeadMetrics, HeadParts, Pool, serve};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = Arc::new(Pool { name: "static".to_owned(), weight: 1 });
//! let workers = FixedDiscovery { pool, addresses: vec!["10.0.0.1:8000".to_owned()] };
//! let parts = HeadParts { workers: vec![Box::new(workers)], ..HeadParts::default() };
//! let head = Head::new(HeadConfig::default(), parts, Arc::new(HeadMetrics::new()))?;
//! let listener = tokio::net::TcpListener::bind("0.0.0.0:8000").await?;
//! serve(listener, head, future::pending()).await;
//! # Ok(()) }
//! ```

mod account;
mod attempt;
mod board;
mod breaker;
mod choose;
mod client;
mod config;
mod discovery;
mod dispatch;
mod events;
mod fleet;
mod head;
#[doc(hidden)]
pub mod measured;
mod metrics;
mod model;
mod peers;
mod poll;
mod prefix_chain;
mod prefix_index;
mod relay;
mod request;
mod retry_budget;
mod router;
mod routes;
mod scaler;
mod serve;
mod worker;

pub use self::{
    client::InvalidWorkerKey,
    config::{HeadConfig, HealthConfig, OfferedModel, QueueConfig, Stickiness},
    discovery::{
        Discovery, DnsDiscovery, FixedDiscovery, KubernetesDiscovery, KubernetesError, Pool, ServicePort,
        Stage, Target,
    },
    head::{Head, HeadParts, InvalidHead},
    metrics::HeadMetrics,
    router::router,
    scaler::serve_scaler,
    serve::{serve, serve_dashboard},
};

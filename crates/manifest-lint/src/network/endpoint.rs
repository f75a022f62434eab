//! Whoever is at an end of a connection.

use std::net::IpAddr;

use crate::workload::{Labels, Port};

/// A pod of the set, a pod of others, or an address outside of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// As findings call it.
    pub(crate) name: String,
    /// What only pods have.
    pub(crate) pod: Option<Pod>,
    /// Pods have one too: most networks let blocks of addresses match them.
    pub(crate) ip: IpAddr,
}

/// How policies see a pod.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) namespace_labels: Labels,
    pub(crate) labels: Labels,
    pub(crate) ports: Vec<Port>,
}

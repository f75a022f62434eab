//! Whoever is at an end of a connection.

use std::net::IpAddr;

use crate::workload::{Labels, Port};

/// A pod of the set, a pod of others, or an address outside of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// As the table of flows calls it: several may have one name.
    pub(crate) name: String,
    /// As findings call it.
    pub(crate) shown: String,
    /// What only pods have.
    pub(crate) pod: Option<Pod>,
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

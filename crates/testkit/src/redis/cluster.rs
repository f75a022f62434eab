//! Six Redis servers that are one cluster: three masters, each with a replica.

use std::time::Instant;

use super::{CLIENT, PATIENCE, Redis};
use crate::error::TestkitError;

/// A cluster of three masters with a replica each.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

/// A node whose master is silent for so many milliseconds takes its place.
const NODE_TIMEOUT: &str = "1500";

// === impl RedisCluster ===

impl RedisCluster {
    /// Start six nodes and make a cluster of them.
    ///
    /// # Errors
    /// Redis is not installed, or the cluster does not become whole.
    pub fn start() -> Result<Self, TestkitError> {
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-config-file",
            "nodes.conf",
            "--cluster-node-timeout",
            NODE_TIMEOUT,
            // A replica that has never had its master's data is not elected, and it would wait five seconds for it.
            "--repl-diskless-sync-delay",
            "0",
        ];
        let nodes = (0..6).map(|_| Redis::launch(None, &options)).collect::<Result<Vec<_>, _>>()?;
        let cluster = Self { nodes };
        let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.address().to_string()).collect();
        let mut args = vec!["--cluster", "create"];
        args.extend(addresses.iter().map(String::as_str));
        args.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let said = cluster.nodes[0].client(&args)?;
        if !said.contains("All 16384 slots covered") {
            return Err(TestkitError::new(CLIENT, format!("the cluster was not made: {said}")));
        }
        cluster.wait()?;
        Ok(cluster)
    }

    /// Until every node knows all slots and three replicas, and these have the data of their masters.
    fn wait(&self) -> Result<(), TestkitError> {
        let begun = Instant::now();
        let whole = |node: &Redis| {
            let state = node.client(&["cluster", "info"]).unwrap_or_default();
            let nodes = node.client(&["cluster", "nodes"]).unwrap_or_default();
            let replicas = nodes.lines().filter(|line| line.contains("slave ")).count();
            let data = node.client(&["info", "replication"]).unwrap_or_default();
            let has_data = data.contains("role:master") || data.contains("master_link_status:up");
            state.contains("cluster_state:ok") && replicas == 3 && has_data
        };
        while begun.elapsed() < PATIENCE {
            if self.nodes.iter().all(whole) {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        Err(TestkitError::new(CLIENT, "the cluster did not become whole"))
    }

    /// Addresses of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// All nodes; the first is a master when the cluster starts.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// End the node that is the master of this key, at once.
    ///
    /// # Errors
    /// Nobody says that it is.
    pub fn stop_master_of(&mut self, key: &str) -> Result<(), TestkitError> {
        // A node that does not have the key's slot says who has: `MOVED slot host:port`.
        for idx in 0..self.nodes.len() {
            let role = self.nodes[idx].client(&["role"])?;
            let said = self.nodes[idx].client(&["exists", key])?;
            if role.starts_with("master") && !said.contains("MOVED") {
                self.nodes[idx].stop();
                return Ok(());
            }
        }
        Err(TestkitError::new(CLIENT, "no master has the key"))
    }
}

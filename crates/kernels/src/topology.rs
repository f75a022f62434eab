//! What this process may compute on: CPUs, the physical cores behind them, and the memory nodes these belong to.
//!
//! Two threads of one core share its arithmetic units, so kernels gain nothing from the second one. The affinity
//! mask (a cpuset, `taskset`) says which CPUs there are; a quota of the control group says how much time of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

/// The machine as far as this process may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    /// CPUs of the affinity mask, in order; empty where the system does not tell.
    pub(crate) allowed: Vec<usize>,
    /// As many CPUs as `allowed`, or as the quota of the control group gives time for; at least one.
    pub(crate) usable: usize,
    /// The first allowed CPU of every physical core, the cores of a node before those of the next. Empty where the
    /// system does not tell.
    pub(crate) cores: Vec<usize>,
    /// Nodes that have some of these cores, and memory that may be used.
    pub(crate) memory_nodes: Vec<usize>,
}

/// The machine this process runs on, as it was when first asked.
pub(crate) fn topology() -> &'static Topology {
    static TOPOLOGY: OnceLock<Topology> = OnceLock::new();
    TOPOLOGY.get_or_init(|| {
        // The standard library reads the affinity mask and the quota (cgroup v2 cpu.max, v1 cfs quota).
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        Topology::read(Path::new("/proc/self/status"), Path::new("/sys/devices/system"), usable)
    })
}

// === impl Topology ===

impl Topology {
    fn read(status: &Path, system: &Path, usable: usize) -> Self {
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let list = |key: &str| parse_list(status.lines().find_map(|line| line.strip_prefix(key))?);
        let allowed = list("Cpus_allowed_list:").unwrap_or_default();
        let nodes = nodes(system);
        let node_of = |cpu: &usize| nodes.get(cpu).copied().unwrap_or(0);
        let mut cores = first_siblings(&system.join("cpu"), &allowed).unwrap_or_default();
        cores.sort_by_key(|cpu| (node_of(cpu), *cpu));
        let memory = list("Mems_allowed_list:").unwrap_or_default();
        let mut memory_nodes: Vec<usize> = cores.iter().map(node_of).collect();
        memory_nodes.dedup();
        memory_nodes.retain(|node| memory.contains(node));
        Self { allowed, usable: usable.max(1), cores, memory_nodes }
    }

    /// Threads that are worth having: physical cores, within the quota.
    pub(crate) fn default_threads(&self) -> usize {
        if self.cores.is_empty() { self.usable } else { self.usable.min(self.cores.len()) }
    }

    /// Whether a quota gives less time than the CPUs of the mask have.
    pub(crate) fn is_limited(&self) -> bool {
        self.usable < self.allowed.len()
    }
}

/// The first of `allowed` of each core; `None` where the system does not tell.
fn first_siblings(cpus: &Path, allowed: &[usize]) -> Option<Vec<usize>> {
    let mut seen = BTreeSet::new();
    let mut first = Vec::new();
    for cpu in allowed {
        let siblings = cpus.join(format!("cpu{cpu}/topology/thread_siblings_list"));
        if seen.insert(std::fs::read_to_string(siblings).ok()?) {
            first.push(*cpu);
        }
    }
    Some(first)
}

/// The node of every CPU; empty where the system does not tell.
fn nodes(system: &Path) -> BTreeMap<usize, usize> {
    let mut nodes = BTreeMap::new();
    for entry in std::fs::read_dir(system.join("node")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node")?.parse::<usize>().ok());
        let (Some(node), Ok(list)) = (number, std::fs::read_to_string(entry.path().join("cpulist"))) else {
            continue;
        };
        nodes.extend(parse_list(&list).unwrap_or_default().into_iter().map(|cpu| (cpu, node)));
    }
    nodes
}

/// `0-3,8` as numbers.
fn parse_list(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last < first || last - first > 1 << 20 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

#[cfg(test)]
mod tests;

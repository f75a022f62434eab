//! What is known of a model's workers and of the platform before manifests are made.

use std::collections::BTreeMap;
use std::time::Duration;

/// The workers of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The name in models.yaml.
    pub model: String,
    /// GPUs of one pod; 0 computes on the CPU.
    pub gpus: usize,
    /// Whether its files are in the models volume; else they are in the binary.
    pub has_files: bool,
    /// Pods that share the model; more than one are a group.
    pub nodes: usize,
    /// Ranks of the model in one pod.
    pub ranks: usize,
    /// How many there are of it.
    pub replicas: Replicas,
    /// Sequences that a replica computes together.
    pub max_num_seqs: usize,
    /// CPUs of one pod, as Kubernetes writes them.
    pub cpu: String,
    /// Memory of one pod without `/dev/shm`, in bytes.
    pub memory: u64,
    /// Size of `/dev/shm`, in bytes; 0 leaves what the container runtime gives.
    pub shm: u64,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
}

/// How many replicas a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// At least; 0 lets the model go to sleep.
    pub min: u32,
    /// At most; the same as the least where nothing scales.
    pub max: u32,
}

/// What scales workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Autoscaler {
    /// A ScaledObject for each model whose replicas have a range.
    Keda,
    /// Nothing: the Deployment says how many.
    None,
}

/// What all workers have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Image of workers that compute on the CPU.
    pub image: String,
    /// Image of workers that compute on GPUs.
    pub gpu_image: String,
    /// What scales them.
    pub autoscaler: Autoscaler,
    /// How long a worker may take after SIGTERM, as server.yaml says.
    pub shutdown: Duration,
}

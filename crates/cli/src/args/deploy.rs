//! Arguments of `vlinders deploy`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  vlinders deploy render --models deploy/base/config/models.yaml --server deploy/base/config/server.yaml \\
    --out deploy/overlays/production/models
  vlinders deploy render … --check                   for a pipeline: changes nothing, ends with 1 where files differ

To add a model to the platform, add an entry with a `deploy` section to models.yaml, render, and apply the overlay:

  - name: qwen3-8b
    path: /models/qwen3-8b              # in the volume that all workers share
    device: cuda                        # cuda: tensor_parallel_size GPUs and the image for GPUs; or cpu
    tensor_parallel_size: 1
    deploy:
      source: hf://Qwen/Qwen3-8B@COMMIT # where `vlinders pull` fetches it from
      replicas: { min: 1, max: 4 }      # or one number; min: 0 lets it sleep
      cpu: \"8\"                          # of one pod
      memory: 24Gi                      # without /dev/shm, which is added
      shm: 8Gi                          # size of /dev/shm
      nodes: 1                          # more: a LeaderWorkerSet of so many pods, each with one rank
      node_selector: { nvidia.com/gpu.present: \"true\" }

Exit status: 0 when the files are (or were) as they must be, 1 when something is wrong, or differs with --check.";

/// Make the Kubernetes manifests of workers from models.yaml
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeployArgs {
    #[command(subcommand)]
    pub(crate) command: DeployCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum DeployCommand {
    Render(RenderArgs),
}

/// Write the manifests of each enabled model's workers, and the kustomization.yaml that lists them
///
/// For each model a file with its Deployment (or LeaderWorkerSet), Service, PodDisruptionBudget and NetworkPolicy, and one with its
/// ScaledObject. The same models.yaml gives the same bytes. Files of models that are no longer there are removed; files that were
/// not generated are never touched.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RenderArgs {
    /// The models
    #[arg(long, value_name = "FILE")]
    pub(crate) models: PathBuf,

    /// server.yaml of the workers: pods get the time that `shutdown` promises, and some more [default: its defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) server: Option<PathBuf>,

    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,

    /// What scales models whose `replicas` have a least and a most
    #[arg(long, value_name = "WHICH", default_value = "keda")]
    pub(crate) autoscaler: AutoscalerKind,

    /// Image of workers on the CPU, as kustomization.yaml knows it
    #[arg(long, value_name = "NAME", default_value = "vlinders")]
    pub(crate) image: String,

    /// Image of workers on GPUs
    #[arg(long, value_name = "NAME", default_value = "vlinders-gpu")]
    pub(crate) gpu_image: String,

    /// Write nothing; say which files are stale, missing or surplus
    #[arg(long)]
    pub(crate) check: bool,
}

/// What scales workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AutoscalerKind {
    /// KEDA, by the queue, the requests that are computed, and the KV cache
    Keda,
    /// Nothing: each Deployment says how many
    None,
}

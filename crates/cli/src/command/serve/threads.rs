//! The threads that compute, for all models of a server: how many, where, and what the log says of them.

use vlinders_runner::{
    Binding, ComputeOptions, ComputeReport, Pinning, Placement, configure_compute, default_num_threads,
};

use crate::args::CpuPinning;
use crate::config::Resolved;

/// Start them, and say what came of it.
pub(in crate::command) fn start(resolved: &Resolved) {
    let options = options(resolved, default_num_threads());
    tell(&options, &configure_compute(&options));
}

/// Models take turns on one pool, region by region; it is as large as the most that one of them may use.
fn options(resolved: &Resolved, default: usize) -> ComputeOptions {
    let most = resolved.models.iter().map(|model| model.num_threads.unwrap_or(default)).max();
    ComputeOptions {
        threads: resolved.server.compute_threads.or(most),
        pinning: match resolved.server.cpu_pinning {
            CpuPinning::Auto => Pinning::Auto,
            CpuPinning::On => Pinning::On,
            CpuPinning::Off => Pinning::Off,
        },
        engines: resolved.models.len(),
    }
}

fn tell(options: &ComputeOptions, report: &ComputeReport) {
    let (threads, cpus) = (report.threads, report.usable_cpus);
    match &report.binding {
        Binding::Cores => tracing::info!(threads, cpus, "threads that compute, each bound to a core"),
        Binding::Free { reason } if options.pinning == Pinning::On => {
            tracing::warn!(threads, cpus, reason, "threads that compute are not bound to cores");
        }
        Binding::Free { reason } => {
            tracing::info!(threads, cpus, reason, "threads that compute, not bound to cores");
        }
    }
    if threads < report.wanted {
        tracing::warn!(
            threads,
            wanted = report.wanted,
            "the system gave fewer threads; raise its limit of them"
        );
    }
    if threads > cpus {
        tracing::warn!(
            threads,
            cpus,
            "more threads than CPUs this process has time for: they wait for each other"
        );
    }
    match &report.placement {
        Placement::OneNode => {}
        Placement::Interleaved { nodes } => {
            tracing::info!(nodes, "memory of weights takes turns on all nodes")
        }
        Placement::Refused { nodes, reason } => tracing::warn!(
            nodes,
            reason,
            "memory of weights lies wherever it was filled; allow mbind (CAP_SYS_NICE), or start under `numactl --interleave=all`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{ComputeArgs, ModelArgs, ServerArgs};

    fn threads(models: [Option<usize>; 2], compute_threads: Option<usize>) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        let mut resolved = crate::config::resolve(
            &ModelArgs::default(),
            &ServerArgs::default(),
            &ComputeArgs::default(),
            folder.path(),
        )
        .unwrap();
        resolved.models.push(resolved.models[0].clone());
        resolved.server.compute_threads = compute_threads;
        for (model, num_threads) in resolved.models.iter_mut().zip(models) {
            model.num_threads = num_threads;
        }
        assert_eq!(options(&resolved, 16).engines, 2);
        options(&resolved, 16).threads
    }

    #[test]
    fn the_pool_is_as_large_as_the_most_that_a_model_may_use() {
        assert_eq!(threads([None, None], None), Some(16));
        assert_eq!(threads([Some(4), Some(6)], None), Some(6));
        assert_eq!(threads([Some(4), None], None), Some(16));
        assert_eq!(threads([Some(32), None], None), Some(32));
        assert_eq!(threads([Some(4), None], Some(8)), Some(8));
    }
}

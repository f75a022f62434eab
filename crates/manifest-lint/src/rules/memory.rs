//! What lies in memory-backed volumes (`/dev/shm`) counts against the memory of the container.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::quantity;
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "memory",
    explains: "memory requests and limits hold the memory-backed volumes of a container and something to run in beside them",
    check,
};

const MIB: f64 = 1024.0 * 1024.0;
/// What the smallest program needs.
const LEAST: f64 = 8.0 * MIB;

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for volume in pod.spec().items("volumes") {
            if volume.text("emptyDir.medium") == "Memory" && !volume.has("emptyDir.sizeLimit") {
                let what = format!("volume {} takes memory without a limit", volume.text("name"));
                report.at(pod.object, what, "set sizeLimit");
            }
        }
        for container in pod.containers() {
            let shared = in_memory(&pod, &container);
            if shared == 0.0 {
                continue;
            }
            for kind in ["requests", "limits"] {
                let amount = quantity::parse(container.value.at("resources").at(kind).at("memory"));
                // A program that uses so much of it has buffers of its own beside it.
                let needed = shared + LEAST.max(shared / 8.0);
                if amount.is_some_and(|amount| amount < needed) {
                    report.at(
                        pod.object,
                        format!(
                            "{}: {} MiB of memory-backed volumes leave too little of its {kind}.memory",
                            container.name(),
                            (shared / MIB).round()
                        ),
                        "add the size of those volumes to what the program needs",
                    );
                }
            }
        }
    }
}

/// Bytes that its memory-backed volumes may take.
fn in_memory(pod: &Workload<'_>, container: &Container<'_>) -> f64 {
    let mounted =
        |name: &str| container.value.items("volumeMounts").iter().any(|mount| mount.text("name") == name);
    let volumes = pod.spec().items("volumes").iter();
    let backed =
        volumes.filter(|volume| volume.text("emptyDir.medium") == "Memory" && mounted(volume.text("name")));
    backed.filter_map(|volume| quantity::parse(volume.at("emptyDir.sizeLimit"))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn pod(request: &str, limit: &str, volume: &str) -> String {
        deployment(&format!(
            "
containers:
- name: c
  resources: {{requests: {{memory: {request}}}, limits: {{memory: {limit}}}}}
  volumeMounts: [{{name: shm, mountPath: /dev/shm}}]
volumes:
- {{name: shm, emptyDir: {{medium: Memory{volume}}}}}"
        ))
    }

    #[test]
    fn shared_memory_and_the_program_fit() {
        assert_eq!(found(&RULE, &pod("40Gi", "40Gi", ", sizeLimit: 8Gi")), [""; 0]);
        let what = "Deployment a/d: c: 8192 MiB of memory-backed volumes leave too little of its";
        assert_eq!(
            found(&RULE, &pod("8Gi", "40Gi", ", sizeLimit: 8Gi")),
            [format!("{what} requests.memory")]
        );
        assert_eq!(found(&RULE, &pod("16Gi", "8Gi", ", sizeLimit: 8Gi")), [format!("{what} limits.memory")]);
    }

    #[test]
    fn it_has_a_limit() {
        assert_eq!(
            found(&RULE, &pod("1Gi", "1Gi", "")),
            ["Deployment a/d: volume shm takes memory without a limit"]
        );
    }
}

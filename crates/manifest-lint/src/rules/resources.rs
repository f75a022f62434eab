//! Every container says what it needs and what it may take.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "resources",
    explains: "each container has requests of cpu and memory, and a memory limit",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            let resources = container.value.at("resources");
            let needed = ["requests.cpu", "requests.memory", "limits.memory"];
            let missing: Vec<_> = needed.into_iter().filter(|path| !resources.has(path)).collect();
            if !missing.is_empty() {
                let what = format!("{} has no {}", container.name(), missing.join(", "));
                report.at(pod.object, what, "say what it needs: without it the node decides whom to end");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn init_containers_count_as_well() {
        let resources = "resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 1Gi}}";
        let pod = |init: &str| {
            deployment(&format!(
                "initContainers:\n- {{name: i, {init}}}\ncontainers:\n- {{name: c, {resources}}}"
            ))
        };
        assert_eq!(found(&RULE, &pod(resources)), [""; 0]);
        assert_eq!(
            found(&RULE, &pod("resources: {requests: {cpu: 1}}")),
            ["Deployment a/d: i has no requests.memory, limits.memory"]
        );
    }
}

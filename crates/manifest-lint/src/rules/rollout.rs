//! A new version of a GPU worker does not wait for GPUs that the old one has.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::quantity;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "rollout",
    explains: "Deployments of GPU pods roll out with maxSurge 0: there are no spare GPUs",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads().into_iter().filter(|pod| pod.object.kind() == "Deployment") {
        let gpus =
            |value: &serde_json::Value| quantity::parse(value.at("resources.limits").entry("nvidia.com/gpu"));
        let has_gpus =
            pod.containers().iter().any(|container| gpus(container.value).is_some_and(|gpus| gpus > 0.0));
        let strategy = pod.object.value.at("spec.strategy");
        let surge = strategy.at("rollingUpdate.maxSurge");
        let no_surge = surge.as_u64() == Some(0) || matches!(surge.as_str(), Some("0" | "0%"));
        if has_gpus && !no_surge && strategy.text("type") != "Recreate" {
            report.at(
                pod.object,
                "a rollout asks for more GPUs than there are",
                "set maxSurge: 0, maxUnavailable: 1",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn gpu_pods_do_not_surge() {
        let pod = deployment("containers:\n- {name: c, resources: {limits: {nvidia.com/gpu: 1}}}");
        assert_eq!(found(&RULE, &pod), ["Deployment a/d: a rollout asks for more GPUs than there are"]);
        let strategy = "spec:\n  strategy: {rollingUpdate: {maxSurge: 0}}";
        assert_eq!(found(&RULE, &pod.replacen("spec:", strategy, 1)), [""; 0]);
        assert_eq!(found(&RULE, &deployment("containers:\n- {name: c}")), [""; 0]);
    }
}

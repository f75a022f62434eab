//! Replicas do not all stand on one node.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::network::selects;
use crate::object::Object;
use crate::set::Set;
use crate::workload::Workload;

pub(super) const RULE: Rule = Rule {
    id: "spread",
    explains: "pods with several replicas spread over nodes, by constraints that select them",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads().into_iter().filter(Workload::is_long_running) {
        if pod.object.kind() == "DaemonSet" || most_replicas(set, pod.object) < 2 {
            continue;
        }
        let labels = pod.labels();
        let constraints = pod.spec().items("topologySpreadConstraints").iter();
        let spread = constraints.filter(|constraint| selects(constraint.at("labelSelector"), &labels));
        let affinity = pod.spec().at("affinity.podAntiAffinity");
        if spread.count() == 0 && !affinity.is_object() {
            report.at(
                pod.object,
                "all its replicas may stand on one node",
                "add topologySpreadConstraints over kubernetes.io/hostname that select its pods",
            );
        }
    }
}

/// Replicas that it may have, by itself or through an autoscaler.
pub(super) fn most_replicas(set: &Set, object: &Object) -> i64 {
    let written = object.value.number("spec.replicas").unwrap_or(1);
    set.scaler_of(object).map_or(written, |(_, most)| most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn constraints_must_select_the_pod() {
        let pod = |replicas: i64, label: &str| {
            deployment(&format!("topologySpreadConstraints:\n- {{labelSelector: {{matchLabels: {{app: {label}}}}}}}\ncontainers:\n- {{name: c}}"))
                .replacen("spec:", &format!("spec:\n  replicas: {replicas}"), 1)
        };
        assert_eq!(found(&RULE, &pod(2, "d")), [""; 0]);
        assert_eq!(found(&RULE, &pod(2, "x")), ["Deployment a/d: all its replicas may stand on one node"]);
        assert_eq!(found(&RULE, &pod(1, "x")), [""; 0]);
    }

    #[test]
    fn an_autoscaler_makes_several() {
        let scaler = "\n---\nkind: HorizontalPodAutoscaler\nmetadata: {name: h, namespace: a}\nspec: {scaleTargetRef: {kind: Deployment, name: d}, maxReplicas: 3}";
        assert_eq!(found(&RULE, &(deployment("containers:\n- {name: c}") + scaler)).len(), 1);
    }
}

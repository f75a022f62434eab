//! Nodes can be drained, one pod of a kind at a time.

use super::Rule;
use super::spread::most_replicas;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "disruption",
    explains: "what may have several replicas has a PodDisruptionBudget, which selects pods and leaves room to drain a node",
    check,
};

fn check(set: &Set, report: &mut Report) {
    let pods = set.workloads();
    for budget in set.of_kind("PodDisruptionBudget") {
        let selector = budget.value.at("spec.selector");
        let selected: Vec<_> = pods
            .iter()
            .filter(|pod| pod.namespace() == budget.namespace() && pod.is_selected_by(selector))
            .collect();
        if selected.is_empty() {
            report.at(budget, "it selects no pod", "correct the selector");
        }
        let none_may_go = budget.value.number("spec.maxUnavailable") == Some(0)
            || budget.value.text("spec.minAvailable") == "100%";
        let fewest = selected.iter().map(|pod| fewest_replicas(set, pod.object)).sum::<i64>();
        let all_must_stay = budget.value.number("spec.minAvailable").is_some_and(|least| least >= fewest);
        if none_may_go || (all_must_stay && !selected.is_empty()) {
            report.at(
                budget,
                "no node with such a pod can be drained",
                "allow one to be away: maxUnavailable: 1",
            );
        }
    }
    for pod in pods.iter().filter(|pod| pod.is_long_running() && most_replicas(set, pod.object) > 1) {
        let mut budgets = set.of_kind("PodDisruptionBudget");
        let covered = budgets.any(|budget| {
            budget.namespace() == pod.namespace() && pod.is_selected_by(budget.value.at("spec.selector"))
        });
        if !covered {
            report.at(pod.object, "it has no PodDisruptionBudget", "add one with maxUnavailable: 1");
        }
    }
}

fn fewest_replicas(set: &Set, object: &crate::object::Object) -> i64 {
    let written = object.value.number("spec.replicas").unwrap_or(1);
    let scaler = set.scaler_of(object).map(|(scaler, _)| scaler);
    let least = scaler.and_then(|scaler| {
        scaler.value.number("spec.minReplicas").or(scaler.value.number("spec.minReplicaCount"))
    });
    least.unwrap_or(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(replicas: &str, selector: &str, rule: &str) -> String {
        let pod = deployment("containers:\n- {name: c}").replacen(
            "spec:",
            &format!("spec:\n  replicas: {replicas}"),
            1,
        );
        format!(
            "{pod}\n---\nkind: PodDisruptionBudget\nmetadata: {{name: b, namespace: a}}\nspec: {{selector: {{matchLabels: {{app: {selector}}}}}, {rule}}}"
        )
    }

    #[test]
    fn several_replicas_need_a_budget_that_selects_them() {
        assert_eq!(found(&RULE, &documents("2", "d", "maxUnavailable: 1")), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("2", "x", "maxUnavailable: 1")),
            ["PodDisruptionBudget a/b: it selects no pod", "Deployment a/d: it has no PodDisruptionBudget"]
        );
    }

    #[test]
    fn one_pod_may_go() {
        let blocked = ["PodDisruptionBudget a/b: no node with such a pod can be drained"];
        assert_eq!(found(&RULE, &documents("2", "d", "maxUnavailable: 0")), blocked);
        assert_eq!(found(&RULE, &documents("2", "d", "minAvailable: 2")), blocked);
        assert_eq!(found(&RULE, &documents("2", "d", "minAvailable: 100%")), blocked);
        assert_eq!(found(&RULE, &documents("2", "d", "minAvailable: 1")), [""; 0]);
    }
}

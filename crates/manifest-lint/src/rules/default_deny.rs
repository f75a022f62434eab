//! What no policy allows is denied.

use std::collections::BTreeSet;

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "default-deny",
    explains: "each namespace with pods has a policy that denies everything that no other allows, in and out",
    check,
};

fn check(set: &Set, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for pod in set.workloads() {
        let namespace = pod.namespace();
        let denied =
            set.of_kind("NetworkPolicy").any(|policy| policy.namespace() == namespace && denies_all(policy));
        if !denied && seen.insert(namespace) {
            report.at(
                pod.object,
                format!("{namespace} is open for whatever no policy selects"),
                "add a policy with podSelector: {} and both policyTypes",
            );
        }
    }
}

fn denies_all(policy: &Object) -> bool {
    let spec = policy.value.at("spec");
    let types = spec.items("policyTypes");
    let both =
        ["Ingress", "Egress"].iter().all(|direction| types.iter().any(|one| one.as_str() == Some(direction)));
    let everybody = spec.at("podSelector").as_object().is_some_and(serde_json::Map::is_empty);
    both && everybody && spec.items("ingress").is_empty() && spec.items("egress").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn both_directions_of_all_pods_are_denied() {
        let pod = deployment("containers:\n- {name: c}");
        let policy = "\n---\nkind: NetworkPolicy\nmetadata: {name: n, namespace: a}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}";
        assert_eq!(found(&RULE, &(pod.clone() + policy)), [""; 0]);
        for (good, bad) in [
            (", Egress", ""),
            ("podSelector: {}", "podSelector: {matchLabels: {a: b}}"),
            ("namespace: a", "namespace: b"),
            ("spec: {", "spec: {ingress: [{}], "),
        ] {
            assert_eq!(
                found(&RULE, &(pod.clone() + &policy.replace(good, bad))),
                ["Deployment a/d: a is open for whatever no policy selects"]
            );
        }
    }
}

//! Namespaces are part of the set and enforce the Pod Security level `restricted`.

use std::collections::BTreeSet;

use super::Rule;
use crate::finding::Report;
use crate::set::Set;
use crate::workload::labels;

pub(super) const RULE: Rule = Rule {
    id: "namespace",
    explains: "namespaces are declared and enforce Pod Security `restricted`; less only where nothing but node agents run",
    check,
};

pub(super) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

fn check(set: &Set, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for object in &set.objects {
        let namespace = object.namespace();
        if !namespace.is_empty() && set.find("Namespace", "", namespace).is_none() && seen.insert(namespace) {
            report.at(object, format!("namespace {namespace} is not declared"), "add it to base/namespaces");
        }
    }
    for namespace in set.of_kind("Namespace") {
        let labels = labels(&namespace.value);
        let level = labels.get(ENFORCE).map_or("none", String::as_str);
        let pods = set.workloads_in(namespace.name());
        let agents_only = !pods.is_empty() && pods.iter().all(|pod| pod.object.kind() == "DaemonSet");
        if level != "restricted" && !(agents_only && level != "none") {
            report.at(
                namespace,
                format!("Pod Security enforces {level}"),
                format!("label it {ENFORCE}: restricted; node agents get a namespace of their own"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{found, workload};

    fn namespace(level: &str) -> String {
        format!("kind: Namespace\nmetadata: {{name: a, labels: {{{ENFORCE}: {level}}}}}\n---\n")
    }

    #[test]
    fn restricted_is_enforced() {
        assert_eq!(found(&RULE, &namespace("restricted")), [""; 0]);
        assert_eq!(found(&RULE, &namespace("baseline")), ["Namespace a: Pod Security enforces baseline"]);
        assert_eq!(
            found(&RULE, "kind: Namespace\nmetadata: {name: a}"),
            ["Namespace a: Pod Security enforces none"]
        );
    }

    #[test]
    fn node_agents_may_have_more_in_a_namespace_of_their_own() {
        let pod = "containers:\n- {name: c}";
        let agents = namespace("privileged") + &workload("apps/v1", "DaemonSet", pod);
        assert_eq!(found(&RULE, &agents), [""; 0]);
        let others = namespace("privileged") + &workload("apps/v1", "Deployment", pod);
        assert_eq!(found(&RULE, &others), ["Namespace a: Pod Security enforces privileged"]);
    }

    #[test]
    fn a_namespace_that_nobody_declares_is_found() {
        let lost = "kind: ConfigMap\nmetadata: {name: c, namespace: b}";
        assert_eq!(found(&RULE, lost), ["ConfigMap b/c: namespace b is not declared"]);
    }
}

//! Service accounts exist where pods use them.

use super::Rule;
use crate::finding::Report;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "service-account",
    explains: "each ServiceAccount that a pod names exists in its namespace",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let name = pod.service_account();
        if name != "default" && set.find("ServiceAccount", pod.namespace(), name).is_none() {
            report.at(
                pod.object,
                format!("ServiceAccount {name} is not in {}", pod.namespace()),
                "declare it beside the workload",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn an_account_of_another_namespace_does_not_help() {
        let pod = deployment("serviceAccountName: s\ncontainers:\n- {name: c}");
        let account = "\n---\nkind: ServiceAccount\nmetadata: {name: s, namespace: a}";
        assert_eq!(found(&RULE, &(pod.clone() + account)), [""; 0]);
        assert_eq!(
            found(&RULE, &(pod + &account.replace(" a}", " b}"))),
            ["Deployment a/d: ServiceAccount s is not in a"]
        );
    }
}

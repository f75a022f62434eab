//! Priority classes exist.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule =
    Rule { id: "priority-class", explains: "each priority class that a pod names is declared", check };

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let name = pod.spec().text("priorityClassName");
        let known =
            name.is_empty() || name.starts_with("system-") || set.find("PriorityClass", "", name).is_some();
        if !known {
            report.at(pod.object, format!("priority class {name} is not declared"), "declare it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn classes_are_declared_or_of_the_system() {
        let pod = |name: &str| deployment(&format!("priorityClassName: {name}\ncontainers:\n- {{name: c}}"));
        assert_eq!(found(&RULE, &pod("system-node-critical")), [""; 0]);
        assert_eq!(found(&RULE, &(pod("p") + "\n---\nkind: PriorityClass\nmetadata: {name: p}")), [""; 0]);
        assert_eq!(found(&RULE, &pod("p")), ["Deployment a/d: priority class p is not declared"]);
    }
}

//! Who is not root can write to its volume.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "fs-group",
    explains: "pods that write to a claim have an fsGroup: a new volume belongs to root",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let writes = pod.claims().iter().any(|(_, writes)| *writes);
        let context = pod.spec().at("securityContext");
        if writes && !context.has("fsGroup") && context.number("runAsUser") != Some(0) {
            report.at(
                pod.object,
                "its volume belongs to root, and it has no fsGroup",
                "set fsGroup to its group",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn only_writers_need_it() {
        let pod = |context: &str, read_only: &str| {
            deployment(&format!(
                "securityContext: {{{context}}}\ncontainers:\n- {{name: c, volumeMounts: [{{name: v, readOnly: {read_only}}}]}}\nvolumes:\n- {{name: v, persistentVolumeClaim: {{claimName: p}}}}"
            ))
        };
        assert_eq!(found(&RULE, &pod("fsGroup: 65534", "false")), [""; 0]);
        assert_eq!(found(&RULE, &pod("", "true")), [""; 0]);
        assert_eq!(
            found(&RULE, &pod("", "false")),
            ["Deployment a/d: its volume belongs to root, and it has no fsGroup"]
        );
    }
}

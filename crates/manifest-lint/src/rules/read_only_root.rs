//! The file system of a container is read-only.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule =
    Rule { id: "read-only-root", explains: "each container has readOnlyRootFilesystem: true", check };

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            if !container.value.is_true("securityContext.readOnlyRootFilesystem") {
                let what = format!("{} can write to its image", container.name());
                report.at(
                    pod.object,
                    what,
                    "set readOnlyRootFilesystem: true, and mount an emptyDir where it must write",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn it_is_said_for_each_container() {
        let pod = |value: &str| {
            deployment(&format!(
                "containers:\n- {{name: c, securityContext: {{readOnlyRootFilesystem: {value}}}}}"
            ))
        };
        assert_eq!(found(&RULE, &pod("true")), [""; 0]);
        assert_eq!(found(&RULE, &pod("false")), ["Deployment a/d: c can write to its image"]);
    }
}

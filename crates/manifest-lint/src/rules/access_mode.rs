//! Volumes can be used by as many nodes as use them, and somebody writes what others read.

use super::Rule;
use super::storage_class::is_block;
use crate::finding::Report;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "access-mode",
    explains: "a claim that several nodes mount is on a shared file system, and some pod writes to it",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for claim in set.of_kind("PersistentVolumeClaim") {
        let mut modes = claim.value.items("spec.accessModes").iter().filter_map(|mode| mode.as_str());
        let shared = modes.clone().any(|mode| mode.ends_with("Many"));
        if shared && class_is_block(set, claim) {
            report.at(
                claim,
                "its storage class attaches a volume to one node",
                "use a file-system driver such as efs.csi.aws.com with ReadWriteMany",
            );
        }
        let pods = set.workloads_in(claim.namespace());
        let uses: Vec<_> =
            pods.iter().flat_map(|pod| pod.claims()).filter(|(name, _)| *name == claim.name()).collect();
        let read_only = modes.all(|mode| mode == "ReadOnlyMany");
        if read_only || (!uses.is_empty() && !uses.iter().any(|(_, writes)| *writes)) {
            report.at(
                claim,
                "nobody ever writes to it",
                "let a Job fill it, with ReadWriteMany, and mount it readOnly elsewhere",
            );
        }
        if uses.len() > 1 && !shared {
            report.at(
                claim,
                format!("{} workloads mount it, from one node only", uses.len()),
                "use ReadWriteMany",
            );
        }
    }
}

fn class_is_block(set: &Set, claim: &Object) -> bool {
    let class = set.find("StorageClass", "", claim.value.text("spec.storageClassName"));
    class.is_some_and(|class| is_block(class.value.text("provisioner")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(mode: &str, driver: &str, read_only: &str) -> String {
        let pod = |name: &str, read_only: &str| {
            deployment(&format!("containers:\n- {{name: c, volumeMounts: [{{name: v, readOnly: {read_only}}}]}}\nvolumes:\n- {{name: v, persistentVolumeClaim: {{claimName: p}}}}"))
                .replace("name: d,", &format!("name: {name},"))
        };
        format!(
            "{}\n---\n{}\n---\nkind: PersistentVolumeClaim\nmetadata: {{name: p, namespace: a}}\nspec: {{accessModes: [{mode}], storageClassName: s}}\n---\nkind: StorageClass\nmetadata: {{name: s}}\nprovisioner: {driver}",
            pod("one", "true"),
            pod("two", read_only)
        )
    }

    #[test]
    fn a_shared_file_system_that_is_written_passes() {
        assert_eq!(found(&RULE, &documents("ReadWriteMany", "efs.csi.aws.com", "false")), [""; 0]);
    }

    #[test]
    fn each_way_to_go_wrong_is_found() {
        let of = |what: &str| vec![format!("PersistentVolumeClaim a/p: {what}")];
        assert_eq!(
            found(&RULE, &documents("ReadWriteMany", "ebs.csi.aws.com", "false")),
            of("its storage class attaches a volume to one node")
        );
        assert_eq!(
            found(&RULE, &documents("ReadWriteMany", "efs.csi.aws.com", "true")),
            of("nobody ever writes to it")
        );
        assert_eq!(
            found(&RULE, &documents("ReadOnlyMany", "efs.csi.aws.com", "false")),
            of("nobody ever writes to it")
        );
        assert_eq!(
            found(&RULE, &documents("ReadWriteOnce", "efs.csi.aws.com", "false")),
            of("2 workloads mount it, from one node only")
        );
    }
}

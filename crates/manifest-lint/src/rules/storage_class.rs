//! Storage classes use drivers that still exist, encrypt, grow, and keep databases.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "storage-class",
    explains: "storage classes use CSI drivers; block storage is encrypted, can grow and is kept when its claim is deleted",
    check,
};

/// CSI drivers whose volumes attach to one node.
const BLOCK: &[&str] = &["ebs.csi.aws.com", "pd.csi.storage.gke.io", "disk.csi.azure.com"];
const IN_TREE: &str = "kubernetes.io/";

fn check(set: &Set, report: &mut Report) {
    for class in set.of_kind("StorageClass") {
        let provisioner = class.value.text("provisioner");
        if provisioner.starts_with(IN_TREE) && provisioner != "kubernetes.io/no-provisioner" {
            report.at(
                class,
                format!("{provisioner} is part of no Kubernetes any more"),
                "use ebs.csi.aws.com",
            );
        }
        if !is_block(provisioner) {
            continue;
        }
        if !class.value.is_true("allowVolumeExpansion") {
            report.at(class, "its volumes can not grow", "set allowVolumeExpansion: true");
        }
        if provisioner.contains("aws") && class.value.text("parameters.encrypted") != "true" {
            report.at(class, "its volumes are not encrypted", "set the parameter encrypted: \"true\"");
        }
        if class.value.text("reclaimPolicy") != "Retain" {
            report.at(class, "a database goes with its claim", "set reclaimPolicy: Retain");
        }
    }
}

/// Volumes of this driver attach to one node at a time.
pub(super) fn is_block(provisioner: &str) -> bool {
    BLOCK.contains(&provisioner) || (provisioner.starts_with(IN_TREE) && !provisioner.ends_with("file"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    const GOOD: &str = "
kind: StorageClass
metadata: {name: s}
provisioner: ebs.csi.aws.com
parameters: {encrypted: 'true'}
allowVolumeExpansion: true
reclaimPolicy: Retain
";

    #[test]
    fn each_setting_of_block_storage_is_looked_at() {
        assert_eq!(found(&RULE, GOOD), [""; 0]);
        let cases = [
            (
                "ebs.csi.aws.com",
                "kubernetes.io/aws-ebs",
                "kubernetes.io/aws-ebs is part of no Kubernetes any more",
            ),
            ("'true'", "'false'", "its volumes are not encrypted"),
            ("allowVolumeExpansion: true", "allowVolumeExpansion: false", "its volumes can not grow"),
            ("Retain", "Delete", "a database goes with its claim"),
        ];
        for (good, bad, what) in cases {
            assert_eq!(found(&RULE, &GOOD.replace(good, bad)), [format!("StorageClass s: {what}")]);
        }
    }

    #[test]
    fn file_systems_are_left_alone() {
        assert_eq!(
            found(&RULE, "kind: StorageClass\nmetadata: {name: s}\nprovisioner: efs.csi.aws.com"),
            [""; 0]
        );
    }
}

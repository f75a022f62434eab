//! Volume claims exist where they are mounted, and so do their storage classes.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "claim",
    explains: "each claim that a pod mounts exists in its namespace, and each storage class that a claim names is declared",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for volume in pod.spec().items("volumes") {
            let name = volume.text("persistentVolumeClaim.claimName");
            if !name.is_empty() && set.find("PersistentVolumeClaim", pod.namespace(), name).is_none() {
                report.at(
                    pod.object,
                    format!("claim {name} is not in {}", pod.namespace()),
                    "declare it, or use a claim template of a StatefulSet",
                );
            }
        }
    }
    for object in &set.objects {
        let claims = object.value.items("spec.volumeClaimTemplates").iter();
        let own = (object.kind() == "PersistentVolumeClaim").then_some(&object.value);
        for claim in claims.chain(own) {
            let class = claim.text("spec.storageClassName");
            if !class.is_empty() && set.find("StorageClass", "", class).is_none() {
                report.at(
                    object,
                    format!("storage class {class} is not declared"),
                    "declare it in the overlay, or leave the name out for the default class of the cluster",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    const CLAIM: &str = "\n---\nkind: PersistentVolumeClaim\nmetadata: {name: p, namespace: a}\nspec: {storageClassName: fast}";
    const CLASS: &str = "\n---\nkind: StorageClass\nmetadata: {name: fast}\n";

    #[test]
    fn claims_and_classes_are_declared() {
        let pod = deployment(
            "containers:\n- {name: c}\nvolumes:\n- {name: v, persistentVolumeClaim: {claimName: p}}",
        );
        assert_eq!(found(&RULE, &(pod.clone() + CLAIM + CLASS)), [""; 0]);
        assert_eq!(
            found(&RULE, &(pod.clone() + &CLAIM.replace("namespace: a", "namespace: b") + CLASS)),
            ["Deployment a/d: claim p is not in a"]
        );
        assert_eq!(
            found(&RULE, &(pod + CLAIM)),
            ["PersistentVolumeClaim a/p: storage class fast is not declared"]
        );
    }
}

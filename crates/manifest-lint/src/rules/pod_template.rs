//! What makes pods selects these pods, and containers mount what their pod has.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;
use crate::workload::Workload;

pub(super) const RULE: Rule = Rule {
    id: "pod-template",
    explains: "workloads select their own pods; each mount names a volume of the pod, and each volume is mounted",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let selector = pod.object.value.at("spec.selector");
        let has_selector = matches!(pod.object.kind(), "Deployment" | "StatefulSet" | "DaemonSet");
        if has_selector && !pod.is_selected_by(selector) {
            report.at(pod.object, "its selector does not select its pods", "use the labels of the template");
        }
        check_mounts(&pod, report);
    }
}

fn check_mounts(pod: &Workload<'_>, report: &mut Report) {
    let volumes: Vec<_> = pod.spec().items("volumes").iter().map(|volume| volume.text("name")).collect();
    let templates = pod.object.value.items("spec.volumeClaimTemplates").iter();
    let templates: Vec<_> = templates.map(|claim| claim.text("metadata.name")).collect();
    let containers = pod.containers();
    let mounts = || containers.iter().flat_map(|container| container.value.items("volumeMounts"));
    for mount in mounts() {
        let name = mount.text("name");
        if !volumes.contains(&name) && !templates.contains(&name) {
            report.at(pod.object, format!("there is no volume {name} to mount"), "add it to volumes");
        }
    }
    for name in volumes.iter().filter(|name| !mounts().any(|mount| mount.text("name") == **name)) {
        report.at(pod.object, format!("no container mounts volume {name}"), "delete it, or mount it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found, workload};

    fn pod(mount: &str, volume: &str) -> String {
        format!(
            "containers:\n- {{name: c, volumeMounts: [{{name: {mount}, mountPath: /v}}]}}\nvolumes:\n- {{name: {volume}, emptyDir: {{}}}}"
        )
    }

    #[test]
    fn mounts_and_volumes_belong_together() {
        assert_eq!(found(&RULE, &deployment(&pod("v", "v"))), [""; 0]);
        assert_eq!(
            found(&RULE, &deployment(&pod("w", "v"))),
            ["Deployment a/d: there is no volume w to mount", "Deployment a/d: no container mounts volume v"]
        );
        let claimed =
            workload("apps/v1", "StatefulSet", "containers:\n- {name: c, volumeMounts: [{name: data}]}")
                .replacen("spec:", "spec:\n  volumeClaimTemplates: [{metadata: {name: data}}]", 1);
        assert_eq!(found(&RULE, &claimed), [""; 0]);
    }

    #[test]
    fn a_selector_selects_its_template() {
        let other = deployment(&pod("v", "v")).replace("matchLabels: {app: d}", "matchLabels: {app: e}");
        assert_eq!(found(&RULE, &other), ["Deployment a/d: its selector does not select its pods"]);
    }
}

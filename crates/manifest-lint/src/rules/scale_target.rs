//! What is to be scaled exists, can be scaled, and by one autoscaler only.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "scale-target",
    explains: "HPAs and ScaledObjects name a workload of their namespace that has /scale, each workload one scaler",
    check,
};

/// Kinds with the subresource `/scale`.
const SCALABLE: &[&str] = &["Deployment", "StatefulSet", "ReplicaSet", "LeaderWorkerSet"];

fn check(set: &Set, report: &mut Report) {
    let mut seen = Vec::new();
    for scaler in set.of_kind("HorizontalPodAutoscaler").chain(set.of_kind("ScaledObject")) {
        let target = scaler.value.at("spec.scaleTargetRef");
        let kind = match target.text("kind") {
            "" => "Deployment",
            kind => kind,
        };
        let name = target.text("name");
        let found = set.find(kind, scaler.namespace(), name);
        if !SCALABLE.contains(&kind) {
            report.at(
                scaler,
                format!("{kind} has no /scale"),
                "scale a Deployment or LeaderWorkerSet for each model",
            );
        } else if found.is_none() {
            report.at(
                scaler,
                format!("{kind} {name} is not in {}", scaler.namespace()),
                "correct scaleTargetRef",
            );
        }
        let version = target.text("apiVersion");
        if let Some(object) = found.filter(|object| !version.is_empty() && object.api_version() != version) {
            report.at(
                scaler,
                format!("{object} is of {}, not {version}", object.api_version()),
                "correct apiVersion",
            );
        }
        let key = (kind.to_owned(), scaler.namespace().to_owned(), name.to_owned());
        if seen.contains(&key) {
            report.at(scaler, format!("{kind} {name} has another autoscaler"), "keep one of them");
        }
        seen.push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(target: &str) -> String {
        deployment("containers:\n- {name: c}")
            + &format!(
                "\n---\nkind: ScaledObject\nmetadata: {{name: s, namespace: a}}\nspec: {{scaleTargetRef: {{{target}}}}}"
            )
    }

    #[test]
    fn targets_exist_and_can_be_scaled() {
        assert_eq!(found(&RULE, &documents("name: d")), [""; 0]);
        for (target, what) in [
            ("name: x", "Deployment x is not in a"),
            ("name: d, kind: RayCluster", "RayCluster has no /scale"),
            ("name: d, kind: StatefulSet", "StatefulSet d is not in a"),
            ("name: d, apiVersion: apps/v2", "Deployment a/d is of apps/v1, not apps/v2"),
        ] {
            assert_eq!(found(&RULE, &documents(target)), [format!("ScaledObject a/s: {what}")]);
        }
    }

    #[test]
    fn two_autoscalers_of_one_workload_are_found() {
        let second = "\n---\nkind: HorizontalPodAutoscaler\nmetadata: {name: h, namespace: a}\nspec: {scaleTargetRef: {kind: Deployment, name: d}}";
        assert_eq!(
            found(&RULE, &(documents("name: d") + second)),
            ["ScaledObject a/s: Deployment d has another autoscaler"]
        );
    }
}

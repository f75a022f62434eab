//! An apply does not undo what an autoscaler has decided.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule =
    Rule { id: "replicas", explains: "what an autoscaler scales has no `replicas`", check };

fn check(set: &Set, report: &mut Report) {
    for object in set.objects.iter().filter(|object| object.value.has("spec.replicas")) {
        if let Some((scaler, _)) = set.scaler_of(object) {
            report.at(object, format!("each apply undoes what {scaler} has decided"), "delete `replicas`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    const HPA: &str = "\n---\nkind: HorizontalPodAutoscaler\nmetadata: {name: h, namespace: a}\nspec: {scaleTargetRef: {kind: Deployment, name: d}}";
    const KEDA: &str =
        "\n---\nkind: ScaledObject\nmetadata: {name: k, namespace: a}\nspec: {scaleTargetRef: {name: d}}";

    #[test]
    fn both_kinds_of_autoscalers_decide_alone() {
        let free = deployment("containers:\n- {name: c}");
        let fixed = free.replacen("spec:", "spec:\n  replicas: 3", 1);
        for (scaler, name) in [(HPA, "HorizontalPodAutoscaler a/h"), (KEDA, "ScaledObject a/k")] {
            assert_eq!(found(&RULE, &(free.clone() + scaler)), [""; 0]);
            assert_eq!(
                found(&RULE, &(fixed.clone() + scaler)),
                [format!("Deployment a/d: each apply undoes what {name} has decided")]
            );
        }
        assert_eq!(found(&RULE, &fixed), [""; 0]);
    }
}

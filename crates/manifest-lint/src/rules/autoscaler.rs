//! Horizontal autoscalers scale by what goes down again, at a pace that is said.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "autoscaler",
    explains: "HPAs scale on CPU and not on memory, which only goes up, with `behavior` and with requests to take shares of",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for scaler in set.of_kind("HorizontalPodAutoscaler") {
        let metrics = scaler.value.items("spec.metrics");
        if metrics.iter().any(|metric| metric.text("resource.name") == "memory") {
            report.at(scaler, "it scales on memory, which a process does not give back", "delete the metric");
        }
        if !scaler.value.has("spec.behavior.scaleDown") {
            report.at(scaler, "it has no behavior.scaleDown", "say how fast it may scale down");
        }
        let least = scaler.value.number("spec.minReplicas").unwrap_or(1);
        if scaler.value.number("spec.maxReplicas").is_none_or(|most| most < least) {
            report.at(scaler, "maxReplicas is less than minReplicas", "correct the numbers");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    const GOOD: &str = "
kind: HorizontalPodAutoscaler
metadata: {name: h, namespace: a}
spec:
  minReplicas: 3
  maxReplicas: 10
  behavior: {scaleDown: {stabilizationWindowSeconds: 300}}
  metrics: [{type: Resource, resource: {name: cpu}}]
";

    #[test]
    fn memory_haste_and_wrong_bounds_are_found() {
        assert_eq!(found(&RULE, GOOD), [""; 0]);
        for (good, bad, what) in [
            ("cpu", "memory", "it scales on memory, which a process does not give back"),
            ("scaleDown", "scaleUp", "it has no behavior.scaleDown"),
            ("maxReplicas: 10", "maxReplicas: 2", "maxReplicas is less than minReplicas"),
        ] {
            assert_eq!(
                found(&RULE, &GOOD.replace(good, bad)),
                [format!("HorizontalPodAutoscaler a/h: {what}")]
            );
        }
    }
}

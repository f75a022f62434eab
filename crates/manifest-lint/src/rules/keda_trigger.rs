//! Triggers of KEDA say what is done when a number is missing, and how fast it goes down.

use serde_json::Value;

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "keda-trigger",
    explains: "Prometheus triggers have ignoreNullValues \"false\", Value for averages and ratios, a fallback, a pace, and a server that exists",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for scaled in set.of_kind("ScaledObject") {
        if !scaled.value.has("spec.fallback") {
            report.at(scaled, "it has no fallback: without Prometheus nothing is scaled", "add fallback");
        }
        if !scaled.value.has("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown") {
            report.at(
                scaled,
                "cooldownPeriod governs the last step to zero only; behavior.scaleDown is missing",
                "set advanced.horizontalPodAutoscalerConfig.behavior.scaleDown",
            );
        }
        for (idx, trigger) in scaled.value.items("spec.triggers").iter().enumerate() {
            if trigger.text("type") == "prometheus" {
                check_trigger(set, scaled, idx, trigger, report);
            }
        }
    }
}

fn check_trigger(set: &Set, scaled: &Object, idx: usize, trigger: &Value, report: &mut Report) {
    let metadata = trigger.at("metadata");
    let is_average = trigger.text("metricType") != "Value";
    let query = metadata.text("query");
    let mut wrong = |what: &str, remedy: &str| report.at(scaled, format!("trigger {idx}: {what}"), remedy);
    if metadata.has("metricName") {
        wrong("metricName was removed in KEDA 2.12", "delete it");
    }
    if metadata.text("ignoreNullValues") != "false" {
        wrong("a missing series counts as 0", "set ignoreNullValues: \"false\"");
    }
    if is_average && query.contains("avg(") {
        wrong("AverageValue divides an average by the replicas", "use sum(), or metricType: Value");
    }
    if is_average && query.contains("_ratio") && !query.contains("sum(") {
        wrong("a ratio is no amount that replicas share", "set metricType: Value");
    }
    if metadata.text("threshold").parse::<f64>().is_err() {
        wrong("its threshold is no number", "write it as a string such as \"5\"");
    }
    if !leads_to_service(set, scaled, metadata.text("serverAddress")) {
        let what = format!("{} leads to no Service of the set", metadata.text("serverAddress"));
        wrong(&what, "correct serverAddress");
    }
}

/// `http://name.namespace[.svc…]:port` is a Service with that port.
fn leads_to_service(set: &Set, scaled: &Object, address: &str) -> bool {
    let Some((_, rest)) = address.split_once("://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or_default();
    let namespace = labels.next().unwrap_or(scaled.namespace());
    set.find("Service", namespace, name).is_some_and(|service| {
        service
            .value
            .items("spec.ports")
            .iter()
            .any(|own| own.number("port").map(|own| own.to_string()).as_deref() == Some(port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    const GOOD: &str = "
kind: Service
metadata: {name: prometheus, namespace: m}
spec: {ports: [{port: 9090}]}
---
kind: ScaledObject
metadata: {name: s, namespace: a}
spec:
  fallback: {failureThreshold: 3, replicas: 1}
  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {}}}}
  triggers:
  - type: prometheus
    metadata: {serverAddress: 'http://prometheus.m:9090', query: 'sum(x)', threshold: '5', ignoreNullValues: 'false'}
";

    #[test]
    fn each_defect_is_found() {
        assert_eq!(found(&RULE, GOOD), [""; 0]);
        for (good, bad, what) in [
            ("threshold", "metricName: x, threshold", "trigger 0: metricName was removed in KEDA 2.12"),
            (", ignoreNullValues: 'false'", "", "trigger 0: a missing series counts as 0"),
            ("sum(x)", "avg(x)", "trigger 0: AverageValue divides an average by the replicas"),
            ("sum(x)", "max(x_ratio)", "trigger 0: a ratio is no amount that replicas share"),
            ("'5'", "many", "trigger 0: its threshold is no number"),
            (
                "prometheus.m:",
                "prometheus:",
                "trigger 0: http://prometheus:9090 leads to no Service of the set",
            ),
            ("m:9090", "m:9091", "trigger 0: http://prometheus.m:9091 leads to no Service of the set"),
            ("fallback", "cooldownPeriod", "it has no fallback: without Prometheus nothing is scaled"),
            (
                "scaleDown",
                "scaleUp",
                "cooldownPeriod governs the last step to zero only; behavior.scaleDown is missing",
            ),
        ] {
            assert_eq!(found(&RULE, &GOOD.replace(good, bad)), [format!("ScaledObject a/s: {what}")]);
        }
    }

    #[test]
    fn value_takes_averages_and_ratios() {
        let value = GOOD.replace("- type", "- metricType: Value\n    type").replace("sum(x)", "avg(x_ratio)");
        assert_eq!(found(&RULE, &value), [""; 0]);
    }
}

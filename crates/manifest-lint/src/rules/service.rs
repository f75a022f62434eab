//! Services lead to pods, on ports that these listen on.

use serde_json::Value;

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;
use crate::workload::Workload;

pub(super) const RULE: Rule = Rule {
    id: "service",
    explains: "each Service selects pods of its namespace that have its target ports; StatefulSets name a headless Service",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for service in set.of_kind("Service").filter(|service| service.value.has("spec.selector")) {
        let pods: Vec<_> =
            set.workloads_in(service.namespace()).into_iter().filter(|pod| leads_to(service, pod)).collect();
        if pods.is_empty() {
            report.at(service, "it selects no pod", "correct the selector");
            continue;
        }
        for port in service.value.items("spec.ports") {
            let target = port.get("targetPort").unwrap_or(port.at("port"));
            for pod in pods.iter().filter(|pod| !listens(pod, target)) {
                report.at(service, format!("{} has no port {target}", pod.object), "correct targetPort");
            }
        }
    }
    for object in set.of_kind("StatefulSet") {
        let name = object.value.text("spec.serviceName");
        let service = set.find("Service", object.namespace(), name);
        let headless = service.is_some_and(|service| service.value.text("spec.clusterIP") == "None");
        // A single pod is what its Service leads to, headless or not.
        let one_pod = object.value.number("spec.replicas").unwrap_or(1) == 1;
        if !(headless || one_pod && service.is_some()) {
            report.at(
                object,
                format!("serviceName `{name}` is no headless Service"),
                "its pods get their names from one with clusterIP: None",
            );
        }
    }
}

/// The selector of a Service is a map of labels.
pub(super) fn leads_to(service: &Object, pod: &Workload<'_>) -> bool {
    let labels = pod.labels();
    let mut selector = service.value.entries("spec.selector").peekable();
    service.namespace() == pod.namespace()
        && selector.peek().is_some()
        && selector.all(|(key, value)| labels.get(key).map(String::as_str) == value.as_str())
}

fn listens(pod: &Workload<'_>, target: &Value) -> bool {
    pod.ports().iter().any(|port| match target {
        Value::String(name) => port.name == *name,
        number => number.as_u64() == Some(u64::from(port.number)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn service(selector: &str, target: &str) -> String {
        let pod = deployment("containers:\n- {name: c, ports: [{name: http, containerPort: 8000}]}");
        format!(
            "{pod}\n---\nkind: Service\nmetadata: {{name: s, namespace: a}}\nspec: {{selector: {{app: {selector}}}, ports: [{{port: 80, targetPort: {target}}}]}}"
        )
    }

    #[test]
    fn pods_and_ports_are_found_by_name_and_number() {
        assert_eq!(found(&RULE, &service("d", "http")), [""; 0]);
        assert_eq!(found(&RULE, &service("d", "8000")), [""; 0]);
        assert_eq!(found(&RULE, &service("x", "http")), ["Service a/s: it selects no pod"]);
        assert_eq!(
            found(&RULE, &service("d", "https")),
            ["Service a/s: Deployment a/d has no port \"https\""]
        );
        assert_eq!(found(&RULE, &service("d", "8001")), ["Service a/s: Deployment a/d has no port 8001"]);
    }

    #[test]
    fn a_stateful_set_needs_a_headless_service() {
        let set = |ip: &str, replicas: i64| {
            format!(
                "kind: StatefulSet\nmetadata: {{name: p, namespace: a}}\nspec: {{replicas: {replicas}, serviceName: s}}\n---\nkind: Service\nmetadata: {{name: s, namespace: a}}\nspec: {{clusterIP: {ip}}}"
            )
        };
        assert_eq!(found(&RULE, &set("None", 2)), [""; 0]);
        assert_eq!(found(&RULE, &set("10.0.0.1", 1)), [""; 0]);
        assert_eq!(
            found(&RULE, &set("10.0.0.1", 2)),
            ["StatefulSet a/p: serviceName `s` is no headless Service"]
        );
    }
}

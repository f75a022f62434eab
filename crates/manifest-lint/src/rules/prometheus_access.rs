//! Prometheus may see what its configuration looks for.

use serde_json::Value;

use super::Rule;
use super::rbac::bound;
use crate::finding::Report;
use crate::input::yaml;
use crate::look::Look as _;
use crate::mounts::texts;
use crate::object::Object;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "prometheus-access",
    explains: "an account whose Prometheus discovers pods or nodes may list and watch them",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let mut roles = Vec::new();
        for text in texts(set, &pod).into_iter().filter(|text| text.contains("kubernetes_sd_configs")) {
            if let Ok(config) = yaml::<Value>(text) {
                let jobs = config.items("scrape_configs").iter();
                let discoveries = jobs.flat_map(|job| job.items("kubernetes_sd_configs"));
                roles.extend(discoveries.map(|discovery| discovery.text("role").to_owned()));
            }
        }
        let bindings = bound(set, pod.namespace(), pod.service_account());
        let mut needed: Vec<_> = roles.iter().flat_map(|role| resources(role)).collect();
        needed.sort_unstable();
        needed.dedup();
        let denied: Vec<_> = needed
            .into_iter()
            .filter(|resource| !bindings.iter().any(|binding| grants(set, binding, resource)))
            .copied()
            .collect();
        if !denied.is_empty() {
            report.at(
                pod.object,
                format!("its account may not list and watch {}", denied.join(", ")),
                "bind a ClusterRole to a ServiceAccount of its own",
            );
        }
    }
}

/// What a kind of discovery reads.
fn resources(role: &str) -> &'static [&'static str] {
    match role {
        "pod" => &["pods"],
        "node" => &["nodes"],
        "service" => &["services"],
        "endpoints" => &["endpoints", "services", "pods"],
        "endpointslice" => &["endpointslices", "services", "pods"],
        "ingress" => &["ingresses"],
        _ => &[],
    }
}

pub(super) fn grants(set: &Set, binding: &Object, resource: &str) -> bool {
    let role = binding.value.text("roleRef.name");
    let kind = binding.value.text("roleRef.kind");
    let namespace = if kind == "Role" { binding.namespace() } else { "" };
    set.find(kind, namespace, role).is_some_and(|role| {
        role.value.items("rules").iter().any(|rule| {
            let holds =
                |list: &str, word: &str| rule.items(list).iter().any(|item| item.as_str() == Some(word));
            holds("resources", resource) && holds("verbs", "list") && holds("verbs", "watch")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(resources: &str, verbs: &str) -> String {
        let pod =
            "serviceAccountName: p\ncontainers:\n- {name: c}\nvolumes:\n- {name: v, configMap: {name: m}}";
        deployment(pod)
            + &format!(
                "
---
kind: ConfigMap
metadata: {{name: m, namespace: a}}
data: {{prometheus.yml: 'scrape_configs: [{{kubernetes_sd_configs: [{{role: endpointslice}}]}}]'}}
---
kind: ClusterRole
metadata: {{name: r}}
rules: [{{resources: {resources}, verbs: {verbs}}}]
---
kind: ClusterRoleBinding
metadata: {{name: b}}
roleRef: {{kind: ClusterRole, name: r}}
subjects: [{{kind: ServiceAccount, name: p, namespace: a}}]
"
            )
    }

    #[test]
    fn rights_follow_the_configuration() {
        let all = "[pods, services, endpointslices]";
        assert_eq!(found(&RULE, &documents(all, "[get, list, watch]")), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("[pods]", "[get, list, watch]")),
            ["Deployment a/d: its account may not list and watch endpointslices, services"]
        );
        assert_eq!(found(&RULE, &documents(all, "[get]")).len(), 1);
    }

    #[test]
    fn the_right_account_is_bound() {
        let other = documents("[pods, services, endpointslices]", "[list, watch]")
            .replace("name: p, namespace", "name: q, namespace");
        assert_eq!(found(&RULE, &other).len(), 1);
    }
}

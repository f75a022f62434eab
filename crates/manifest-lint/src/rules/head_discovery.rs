//! Heads may watch the Services that they look for workers in, and these exist.

use serde_json::Value;

use super::Rule;
use super::prometheus_access::grants;
use super::rbac::bound;
use crate::finding::Report;
use crate::input::yaml;
use crate::look::Look as _;
use crate::mounts::{File, file_at};
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "head-discovery",
    explains: "Services that a head's server.yaml looks for workers in exist, with that port, and its account may watch their endpointslices",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            for workers in workers(set, &pod, &container) {
                check_workers(set, &pod, &workers, report);
            }
        }
    }
}

/// The pools of workers that are found by Services.
fn workers(set: &Set, pod: &Workload<'_>, container: &Container<'_>) -> Vec<Value> {
    let file = container.option("--server").map(|path| file_at(set, pod, container, path));
    let Some(File::Config(text)) = file else {
        return Vec::new();
    };
    let settings: Value = yaml(text).unwrap_or_default();
    let pools = settings.items("head.workers").iter();
    pools.filter_map(|pool| pool.get("kubernetes").cloned()).collect()
}

fn check_workers(set: &Set, pod: &Workload<'_>, workers: &Value, report: &mut Report) {
    let namespace = match workers.text("namespace") {
        "" => pod.namespace(),
        namespace => namespace,
    };
    let port = match workers.text("port") {
        "" => "http",
        port => port,
    };
    for name in workers.items("services").iter().filter_map(Value::as_str) {
        let service = set.find("Service", namespace, name);
        let mut ports = service.iter().flat_map(|service| service.value.items("spec.ports"));
        if !ports.any(|own| {
            own.text("name") == port || own.number("port").map(|own| own.to_string()).as_deref() == Some(port)
        }) {
            let what = format!(
                "it looks for workers in Service {namespace}/{name} at port {port}, which is not there"
            );
            report.at(pod.object, what, "correct head.workers of its server.yaml");
        }
    }
    let bindings = bound(set, pod.namespace(), pod.service_account());
    let reaches = |binding: &&&crate::object::Object| {
        binding.namespace().is_empty() || binding.namespace() == namespace
    };
    if !bindings.iter().filter(reaches).any(|binding| grants(set, binding, "endpointslices")) {
        report.at(
            pod.object,
            format!("its account may not watch endpointslices in {namespace}"),
            "bind a Role with list and watch there",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents() -> String {
        let pod = "
serviceAccountName: h
containers:
- name: c
  args: [--server, /etc/x/server.yaml]
  volumeMounts: [{name: v, mountPath: /etc/x}]
volumes:
- {name: v, configMap: {name: m}}";
        deployment(pod)
            + "
---
kind: ConfigMap
metadata: {name: m, namespace: a}
data: {server.yaml: 'head: {workers: [{kubernetes: {services: [workers], namespace: b}}]}'}
---
kind: Service
metadata: {name: workers, namespace: b}
spec: {ports: [{name: http, port: 8000}]}
---
kind: Role
metadata: {name: r, namespace: b}
rules: [{resources: [endpointslices], verbs: [list, watch]}]
---
kind: RoleBinding
metadata: {name: r, namespace: b}
roleRef: {kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: h, namespace: a}]
"
    }

    #[test]
    fn service_port_and_rights_are_there() {
        assert_eq!(found(&RULE, &documents()), [""; 0]);
        let service =
            "Deployment a/d: it looks for workers in Service b/workers at port http, which is not there";
        let rights = "Deployment a/d: its account may not watch endpointslices in b";
        for (good, bad, what) in [
            ("metadata: {name: workers", "metadata: {name: others", service),
            ("{name: http,", "{name: web,", service),
            ("[list, watch]", "[list]", rights),
            ("name: r, namespace: b", "name: r, namespace: a", rights),
            ("name: h, namespace: a", "name: g, namespace: a", rights),
        ] {
            assert_eq!(found(&RULE, &documents().replace(good, bad)), [what], "{bad}");
        }
    }
}

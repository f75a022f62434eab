//! Pods pass the Pod Security standard `restricted`, also where the cluster would not look.
//!
//! The fields are those of the standard as Kubernetes documents it; a namespace that enforces `privileged` is left out, of one
//! that enforces `baseline` only what that forbids is looked at.

use serde_json::Value;

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;
use crate::workload::{Container, Workload, labels};

pub(super) const RULE: Rule = Rule {
    id: "pod-security",
    explains: "pods pass Pod Security `restricted`: not root, no privileges, no capabilities, seccomp, no host access",
    check,
};

/// Volumes that `restricted` knows.
const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let level = set
            .find("Namespace", "", pod.namespace())
            .and_then(|namespace| labels(&namespace.value).get(super::namespace::ENFORCE).cloned());
        let mut wrong = Vec::new();
        match level.as_deref() {
            Some("privileged") => {}
            Some("baseline") => baseline(&pod, &mut wrong),
            _ => {
                baseline(&pod, &mut wrong);
                restricted(&pod, &mut wrong);
            }
        }
        if !wrong.is_empty() {
            report.at(
                pod.object,
                wrong.join("; "),
                "set the fields of the Pod Security standard `restricted`",
            );
        }
    }
}

fn baseline(pod: &Workload<'_>, wrong: &mut Vec<String>) {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod.spec().is_true(field) {
            wrong.push(format!("{field} is set"));
        }
    }
    for volume in pod.spec().items("volumes").iter().filter(|volume| volume.has("hostPath")) {
        wrong.push(format!("volume {} is a path of the host", volume.text("name")));
    }
    for container in pod.containers() {
        let name = container.name();
        if container.value.is_true("securityContext.privileged") {
            wrong.push(format!("{name} is privileged"));
        }
        if container.value.items("ports").iter().any(|port| port.number("hostPort").unwrap_or(0) != 0) {
            wrong.push(format!("{name} has a port of the host"));
        }
        if !matches!(container.value.text("securityContext.procMount"), "" | "Default") {
            wrong.push(format!("{name} has procMount"));
        }
    }
}

fn restricted(pod: &Workload<'_>, wrong: &mut Vec<String>) {
    let context = pod.spec().at("securityContext");
    for volume in pod.spec().items("volumes") {
        let kinds =
            volume.as_object().into_iter().flat_map(|fields| fields.keys()).filter(|key| *key != "name");
        let others = kinds.filter(|kind| *kind != "hostPath" && !VOLUMES.contains(&kind.as_str()));
        if others.count() > 0 {
            wrong.push(format!("volume {} is of a kind that is not allowed", volume.text("name")));
        }
    }
    for container in pod.containers() {
        wrong.extend(
            of_container(context, &container).into_iter().map(|what| format!("{}: {what}", container.name())),
        );
    }
}

fn of_container(pod: &Value, container: &Container<'_>) -> Vec<String> {
    let own = container.value.at("securityContext");
    let either = |field: &str| if own.has(field) { own.at(field).clone() } else { pod.at(field).clone() };
    let mut wrong = Vec::new();
    if either("runAsNonRoot") != Value::Bool(true) {
        wrong.push("runAsNonRoot is not true".to_owned());
    }
    if either("runAsUser").as_i64() == Some(0) {
        wrong.push("runAsUser is 0".to_owned());
    }
    if !matches!(either("seccompProfile").text("type"), "RuntimeDefault" | "Localhost") {
        wrong.push("seccompProfile is not RuntimeDefault".to_owned());
    }
    if own.at("allowPrivilegeEscalation") != &Value::Bool(false) {
        wrong.push("allowPrivilegeEscalation is not false".to_owned());
    }
    if !own.items("capabilities.drop").iter().any(|name| name.as_str() == Some("ALL")) {
        wrong.push("capabilities do not drop ALL".to_owned());
    }
    if own.items("capabilities.add").iter().any(|name| name.as_str() != Some("NET_BIND_SERVICE")) {
        wrong.push("capabilities are added".to_owned());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    const GOOD: &str = "
securityContext: {runAsNonRoot: true, runAsUser: 1, seccompProfile: {type: RuntimeDefault}}
containers:
- name: c
  ports: [{containerPort: 80}]
  securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
volumes:
- {name: v, emptyDir: {}}";

    #[test]
    fn restricted_passes() {
        assert_eq!(found(&RULE, &deployment(GOOD)), [""; 0]);
    }

    #[test]
    fn each_field_is_looked_at() {
        let cases = [
            ("runAsNonRoot: true", "runAsNonRoot: false", "c: runAsNonRoot is not true"),
            ("runAsUser: 1", "runAsUser: 0", "c: runAsUser is 0"),
            ("RuntimeDefault", "Unconfined", "c: seccompProfile is not RuntimeDefault"),
            (
                "allowPrivilegeEscalation: false",
                "privileged: false",
                "c: allowPrivilegeEscalation is not false",
            ),
            ("drop: [ALL]", "drop: [NET_RAW]", "c: capabilities do not drop ALL"),
            ("drop: [ALL]", "drop: [ALL], add: [SYS_ADMIN]", "c: capabilities are added"),
            ("containers:", "hostNetwork: true\ncontainers:", "hostNetwork is set"),
            ("emptyDir: {}", "hostPath: {path: /}", "volume v is a path of the host"),
            ("emptyDir: {}", "nfs: {path: /}", "volume v is of a kind that is not allowed"),
            ("containerPort: 80", "containerPort: 80, hostPort: 80", "c has a port of the host"),
            (
                "allowPrivilegeEscalation: false",
                "allowPrivilegeEscalation: false, privileged: true",
                "c is privileged",
            ),
            (
                "allowPrivilegeEscalation: false",
                "allowPrivilegeEscalation: false, procMount: Unmasked",
                "c has procMount",
            ),
        ];
        for (good, bad, what) in cases {
            assert_eq!(
                found(&RULE, &deployment(&GOOD.replace(good, bad))),
                [format!("Deployment a/d: {what}")]
            );
        }
    }

    #[test]
    fn a_container_has_the_last_word() {
        let own = GOOD.replace("securityContext: {allow", "securityContext: {runAsNonRoot: false, allow");
        assert_eq!(found(&RULE, &deployment(&own)), ["Deployment a/d: c: runAsNonRoot is not true"]);
    }

    #[test]
    fn the_level_is_that_of_the_namespace() {
        let namespace = |level: &str| {
            format!(
                "\n---\nkind: Namespace\nmetadata: {{name: a, labels: {{pod-security.kubernetes.io/enforce: {level}}}}}"
            )
        };
        let host = deployment("hostPID: true\ncontainers:\n- {name: c}");
        assert_eq!(found(&RULE, &(host.clone() + &namespace("privileged"))), [""; 0]);
        assert_eq!(found(&RULE, &(host + &namespace("baseline"))), ["Deployment a/d: hostPID is set"]);
    }
}

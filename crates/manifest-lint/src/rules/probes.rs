//! Kubernetes can tell whether a container is alive and ready.

use super::Rule;
use super::service::leads_to;
use crate::finding::Report;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "probes",
    explains: "each long-running container has liveness and readiness probes, on ports that it has; ours has no shell for exec",
    check,
};

/// The image has one program and nothing to run beside it.
const SHELL_LESS: &str = "vlinders/vlinders";

fn check(set: &Set, report: &mut Report) {
    let pods = set.workloads().into_iter().filter(Workload::is_long_running);
    for pod in pods.filter(|pod| !is_follower(set, pod)) {
        for container in pod.containers().into_iter().filter(|container| !container.init) {
            check_container(pod.object, &container, report);
        }
    }
}

/// Of a group that is made again as a whole when one of its pods ends, a pod that nobody asks.
fn is_follower(set: &Set, pod: &Workload<'_>) -> bool {
    let is_group = pod.object.kind() == "LeaderWorkerSet"
        && pod.object.value.text("spec.leaderWorkerTemplate.restartPolicy") != "None";
    is_group && !set.of_kind("Service").any(|service| leads_to(service, pod))
}

fn check_container(object: &Object, container: &Container<'_>, report: &mut Report) {
    let name = container.name();
    for probe in ["livenessProbe", "readinessProbe"] {
        if !container.value.has(probe) {
            report.at(object, format!("{name} has no {probe}"), "add one");
        }
    }
    for hook in
        ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle.preStop", "lifecycle.postStart"]
    {
        let action = container.value.at(hook);
        if action.has("exec") && container.image().contains(SHELL_LESS) {
            let what = format!("{hook} of {name} runs a command that its image does not have");
            report.at(object, what, "ask over HTTP");
        }
        let port = action.at("httpGet").get("port").or(action.at("tcpSocket").get("port"));
        if let Some(port) = port {
            let ports = container.value.items("ports").iter();
            let known =
                ports.into_iter().any(|own| own.at("name") == port || own.at("containerPort") == port);
            if !known {
                report.at(
                    object,
                    format!("{hook} of {name} asks port {port}, which it does not have"),
                    "correct the port",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found, workload};

    const GOOD: &str = "
containers:
- name: c
  image: vlinders/vlinders:1
  ports: [{name: http, containerPort: 8000}]
  livenessProbe: {httpGet: {port: http}}
  readinessProbe: {tcpSocket: {port: 8000}}";

    #[test]
    fn both_probes_are_needed_on_known_ports() {
        assert_eq!(found(&RULE, &deployment(GOOD)), [""; 0]);
        assert_eq!(
            found(&RULE, &deployment(&GOOD.replace("readinessProbe", "startupProbe"))),
            ["Deployment a/d: c has no readinessProbe"]
        );
        assert_eq!(
            found(&RULE, &deployment(&GOOD.replace("port: http}", "port: web}"))),
            ["Deployment a/d: livenessProbe of c asks port \"web\", which it does not have"]
        );
    }

    #[test]
    fn our_image_runs_no_commands() {
        let exec = GOOD.replace("httpGet: {port: http}", "exec: {command: [x]}");
        assert_eq!(
            found(&RULE, &deployment(&exec)),
            ["Deployment a/d: livenessProbe of c runs a command that its image does not have"]
        );
        assert_eq!(found(&RULE, &deployment(&exec.replace("vlinders/vlinders", "postgres"))), [""; 0]);
    }

    #[test]
    fn a_follower_answers_nobody() {
        let group = workload("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "containers:\n- {name: c}");
        assert_eq!(found(&RULE, &group), [""; 0]);
        let asked = group.clone()
            + "\n---\nkind: Service\nmetadata: {name: s, namespace: a}\nspec: {selector: {app: d}}";
        assert_eq!(found(&RULE, &asked).len(), 2);
        let alone = group.replacen("spec:", "spec:\n  leaderWorkerTemplate: {restartPolicy: None}", 1);
        assert_eq!(found(&RULE, &alone).len(), 2);
    }

    #[test]
    fn what_ends_by_itself_needs_none() {
        let job = "containers:\n- {name: c}";
        assert_eq!(found(&RULE, &workload("batch/v1", "Job", job)), [""; 0]);
        assert_eq!(found(&RULE, &workload("apps/v1", "StatefulSet", job)).len(), 2);
    }
}

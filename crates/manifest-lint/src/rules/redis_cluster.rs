//! A Redis cluster is formed, finds its nodes again, and survives the loss of one.

use super::Rule;
use super::service::leads_to;
use crate::finding::Report;
use crate::look::Look as _;
use crate::mounts::texts;
use crate::set::Set;
use crate::workload::Workload;

pub(super) const RULE: Rule = Rule {
    id: "redis-cluster",
    explains: "a Redis cluster has six nodes, a Job that forms it, stable addresses, passwords, a memory limit and a budget",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads().into_iter().filter(|pod| pod.is_long_running() && is_cluster(set, pod)) {
        check_cluster(set, &pod, report);
    }
}

fn check_cluster(set: &Set, pod: &Workload<'_>, report: &mut Report) {
    let spec = pod.object.value.at("spec");
    let mut wrong = |what: &str, remedy: &str| report.at(pod.object, what, remedy);
    if spec.number("replicas").unwrap_or(1) < 6 {
        wrong("fewer than six nodes: no master has a replica", "three masters and three replicas");
    }
    if !set.workloads_in(pod.namespace()).iter().any(|job| forms_cluster(set, job)) {
        wrong(
            "nobody forms the cluster: it answers CLUSTERDOWN",
            "add a Job with redis-cli --cluster create",
        );
    }
    let own = texts(set, pod);
    let says = |word: &str| own.iter().any(|text| text.contains(word));
    if !says("cluster-announce-ip") && !says("cluster-announce-hostname") {
        wrong("nodes.conf keeps addresses of pods that are gone", "set cluster-announce-ip or -hostname");
    }
    if !(says("requirepass") && says("masterauth")) {
        wrong("everybody may read and write it", "set requirepass and masterauth");
    }
    if !says("maxmemory") {
        wrong("it takes memory until it is killed", "set maxmemory and maxmemory-policy");
    }
    if spec.text("podManagementPolicy") != "Parallel" {
        wrong("a node waits for the one before it to be ready", "set podManagementPolicy: Parallel");
    }
    let mut services = set.of_kind("Service").filter(|service| leads_to(service, pod));
    if !services.any(|service| service.value.is_true("spec.publishNotReadyAddresses")) {
        wrong(
            "nodes that are not ready can not find each other",
            "set publishNotReadyAddresses on their Service",
        );
    }
}

/// Its configuration turns the cluster on.
pub(super) fn is_cluster(set: &Set, pod: &Workload<'_>) -> bool {
    let texts = texts(set, pod);
    let on = |text: &str| {
        let words: Vec<_> = text.split_whitespace().map(|word| word.trim_matches(['"', '\''])).collect();
        words.windows(2).any(|pair| pair[0].trim_start_matches('-') == "cluster-enabled" && pair[1] == "yes")
    };
    texts.iter().any(|text| on(text)) || on(&texts.join(" "))
}

fn forms_cluster(set: &Set, job: &Workload<'_>) -> bool {
    let texts = texts(set, job);
    job.object.kind() == "Job"
        && texts.iter().any(|text| text.contains("--cluster create") || text.contains("CLUSTER MEET"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{found, workload};

    fn good() -> String {
        let pod = "containers:\n- {name: c, command: [redis-server, --cluster-enabled, 'yes', --cluster-announce-ip, $(POD_IP), --requirepass, x, --masterauth, x, --maxmemory, 1gb]}";
        let nodes = workload("apps/v1", "StatefulSet", pod).replacen(
            "spec:",
            "spec:\n  replicas: 6\n  podManagementPolicy: Parallel",
            1,
        );
        let job = workload(
            "batch/v1",
            "Job",
            "containers:\n- {name: c, command: [sh, -c, 'redis-cli --cluster create a b']}",
        );
        let service = "kind: Service\nmetadata: {name: s, namespace: a}\nspec: {publishNotReadyAddresses: true, selector: {app: d}}";
        format!("{nodes}\n---\n{job}\n---\n{service}")
    }

    #[test]
    fn each_part_is_needed() {
        assert_eq!(found(&RULE, &good()), [""; 0]);
        for (good_text, bad, what) in [
            ("replicas: 6", "replicas: 3", "fewer than six nodes: no master has a replica"),
            ("--cluster create", "ping", "nobody forms the cluster: it answers CLUSTERDOWN"),
            ("--cluster-announce-ip", "--x", "nodes.conf keeps addresses of pods that are gone"),
            ("--masterauth", "--x", "everybody may read and write it"),
            ("--maxmemory", "--x", "it takes memory until it is killed"),
            ("Parallel", "OrderedReady", "a node waits for the one before it to be ready"),
            ("publishNotReadyAddresses: true, ", "", "nodes that are not ready can not find each other"),
        ] {
            assert_eq!(found(&RULE, &good().replace(good_text, bad)), [format!("StatefulSet a/d: {what}")]);
        }
    }

    #[test]
    fn a_single_server_is_no_cluster() {
        let one = good().replace("'yes'", "'no'").replace("replicas: 6", "replicas: 1");
        assert_eq!(found(&RULE, &one), [""; 0]);
    }
}

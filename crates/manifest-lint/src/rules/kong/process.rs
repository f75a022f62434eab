//! Kong's processes fit into the pod.

use super::gateways;
use crate::finding::Report;
use crate::mounts::{File, file_at};
use crate::rules::Rule;
use crate::set::Set;

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-process",
    explains: "Kong has a fixed number of worker processes, and a prefix and /tmp that it can write to",
    check,
};

/// Where Kong keeps what it generates, unless KONG_PREFIX says otherwise.
const PREFIX: &str = "/usr/local/kong";

fn check(set: &Set, report: &mut Report) {
    for (pod, container) in gateways(set) {
        let workers = container.variable("KONG_NGINX_WORKER_PROCESSES").unwrap_or("auto");
        if workers.parse::<u32>().is_err() {
            report.at(
                pod.object,
                "it starts a process for each core of the node",
                "set KONG_NGINX_WORKER_PROCESSES to what the CPU limit allows",
            );
        }
        for path in [container.variable("KONG_PREFIX").unwrap_or(PREFIX), "/tmp"] {
            if file_at(set, &pod, &container, path) != File::Volume {
                report.at(pod.object, format!("it can not write to {path}"), "mount an emptyDir there");
            }
        }
    }
}

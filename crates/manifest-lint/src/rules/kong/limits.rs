//! Kong counts requests in a Redis that it can speak to.

use serde_json::Value;

use super::{files, plugins};
use crate::finding::Report;
use crate::look::Look as _;
use crate::rules::Rule;
use crate::rules::redis_cluster::is_cluster;
use crate::rules::service::leads_to;
use crate::set::Set;

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-limits",
    explains: "Kong's rate limits are in a standalone Redis, by nested `redis` fields, and say what happens without it",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for (object, file) in files(set) {
        for plugin in plugins(&file, "rate-limiting") {
            let config = plugin.at("config");
            for (field, _) in flat(config) {
                let what = format!("rate-limiting has the flat {field}, which 4.0 does not read");
                report.at(object, what, "write redis: {host, port, password}");
            }
            if !config.has("fault_tolerant") {
                report.at(
                    object,
                    "rate-limiting does not say what happens without Redis",
                    "decide: fault_tolerant true lets everybody in, false answers 500",
                );
            }
            let host = [config.text("redis.host"), config.text("redis_host")].join("");
            if is_cluster_service(set, object.namespace(), &host) {
                report.at(
                    object,
                    format!("rate-limiting speaks to {host}, a cluster, and follows no MOVED"),
                    "give Kong a Redis of its own",
                );
            }
        }
    }
}

fn flat(config: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let fields = config.as_object().into_iter().flatten();
    fields.filter(|(field, _)| field.starts_with("redis_")).map(|(field, value)| (field.as_str(), value))
}

fn is_cluster_service(set: &Set, namespace: &str, host: &str) -> bool {
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or_default();
    let namespace = labels.next().unwrap_or(namespace);
    let Some(service) = set.find("Service", namespace, name) else {
        return false;
    };
    set.workloads_in(namespace).iter().any(|pod| leads_to(service, pod) && is_cluster(set, pod))
}

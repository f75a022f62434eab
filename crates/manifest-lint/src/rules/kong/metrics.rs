//! Kong can be looked at from inside the cluster, and changed from nowhere.

use serde_json::Value;

use super::{files, gateways, plugins};
use crate::finding::Report;
use crate::look::Look as _;
use crate::rules::Rule;
use crate::set::Set;

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-metrics",
    explains: "Kong's status port serves /metrics with latencies and status codes; the admin interface is off",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for (object, file) in files(set) {
        let prometheus = plugins(&file, "prometheus");
        if prometheus.is_empty() {
            report.at(object, "there is no prometheus plugin", "add it for all services");
        }
        for plugin in prometheus {
            for series in ["status_code_metrics", "latency_metrics"] {
                if plugin.at("config").at(series) != &Value::Bool(true) {
                    report.at(object, format!("{series} are off"), format!("set {series}: true"));
                }
            }
        }
    }
    for (pod, container) in gateways(set) {
        if container.variable("KONG_STATUS_LISTEN").is_none_or(|listen| listen.starts_with("off")) {
            report.at(
                pod.object,
                "KONG_STATUS_LISTEN is not set: nobody reaches /metrics",
                "set it to 0.0.0.0:8100, and probe there",
            );
        }
        if container.variable("KONG_ADMIN_LISTEN") != Some("off") {
            report.at(pod.object, "the admin interface listens", "set KONG_ADMIN_LISTEN: \"off\"");
        }
    }
}

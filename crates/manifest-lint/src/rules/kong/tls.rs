//! Tokens travel encrypted, and Kong knows where a request comes from.

use super::{files, gateways, routes};
use crate::finding::Report;
use crate::look::Look as _;
use crate::rules::Rule;
use crate::rules::service::leads_to;
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(in crate::rules) const RULE: Rule = Rule {
    id: "kong-tls",
    explains: "Kong takes HTTPS only, with a certificate that is mounted, keeps client addresses, and is not cut off while it streams",
    check,
};

fn check(set: &Set, report: &mut Report) {
    let gateways = gateways(set);
    for (object, file) in files(set) {
        for route in routes(&file) {
            let protocols = route.items("protocols");
            if protocols.is_empty() || protocols.iter().any(|protocol| protocol.as_str() == Some("http")) {
                let what = format!("route {} takes tokens over plain HTTP", route.text("name"));
                report.at(object, what, "set protocols: [https] and https_redirect_status_code");
            }
        }
    }
    let outside = set.of_kind("Service").filter(|service| service.value.text("spec.type") == "LoadBalancer");
    for service in outside {
        let reached: Vec<_> = gateways.iter().filter(|(pod, _)| leads_to(service, pod)).collect();
        if reached.is_empty() {
            continue;
        }
        for (pod, container) in reached {
            check_gateway(pod, container, report);
        }
        if service.value.text("spec.externalTrafficPolicy") != "Local" {
            report.at(service, "it hides the addresses of clients", "set externalTrafficPolicy: Local");
        }
        let annotations = service.value.entries("metadata.annotations");
        let mut said = annotations.map(|(key, value)| format!("{key} {value}"));
        if !said.any(|text| text.contains("idle-timeout") || text.contains("idle_timeout")) {
            report.at(
                service,
                "idle connections are cut by the default of the load balancer",
                "annotate it with an idle timeout above the longest pause of a stream",
            );
        }
    }
}

/// Without a load balancer, whoever reaches Kong comes through a port-forward.
fn check_gateway(pod: &Workload<'_>, container: &Container<'_>, report: &mut Report) {
    for (variable, otherwise) in [
        ("KONG_SSL_CERT", "it shows a certificate of its own making"),
        ("KONG_SSL_CERT_KEY", "it shows a certificate of its own making"),
        ("KONG_TRUSTED_IPS", "the address of the client is lost"),
    ] {
        if container.variable(variable).is_none() {
            report.at(pod.object, format!("{variable} is not set: {otherwise}"), "set it");
        }
    }
}

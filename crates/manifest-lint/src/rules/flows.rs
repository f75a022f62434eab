//! Policies allow what flows.yaml declares, and nothing else: each pair of ends and each port is evaluated.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::Rule;
use crate::finding::Report;
use crate::network::{Endpoint, Pod, Policy, Verdict, verdict};
use crate::set::Set;
use crate::tables::{Flow, Flows};
use crate::workload::{Labels, Workload, labels};

pub(super) const RULE: Rule = Rule {
    id: "flows",
    explains: "network policies allow each flow of flows.yaml and no other, between every two pods and every port",
    check,
};

const FILE: &str = "flows.yaml";
/// A port that nobody has: a rule without ports is found by it.
const UNUSED: (u16, &str) = (65_000, "TCP");

fn check(set: &Set, report: &mut Report) {
    let Some(table) = &set.flows else {
        return;
    };
    check_table(table, report);
    let policies: Vec<_> =
        set.of_kind("NetworkPolicy").filter_map(|object| Policy::parse(object).ok()).collect();
    let ends = endpoints(set);
    let ours = |end: &Endpoint| !table.endpoints.contains_key(&end.name);
    for from in &ends {
        for to in ends.iter().filter(|to| ours(from) || ours(to)) {
            let ports = ports(table, to, ours(to));
            let mut missing = Vec::new();
            let mut open = Vec::new();
            for (port, protocol) in ports {
                let declared =
                    table.flows.iter().any(|flow| declares(flow, table, from, to, port, &protocol));
                match (declared, verdict(&policies, from, to, port, &protocol)) {
                    (true, Verdict::NotOut) => missing.push(format!("{port}/{protocol} is not let out")),
                    (true, Verdict::NotIn) => missing.push(format!("{port}/{protocol} is not let in")),
                    (false, Verdict::Allowed) => open.push(format!("{port}/{protocol}")),
                    (true, Verdict::Allowed) | (false, Verdict::NotOut | Verdict::NotIn) => {}
                }
            }
            let pair = format!("{} → {}", from.shown, to.shown);
            if !missing.is_empty() {
                let what = format!("declared, but {}", missing.join(", "));
                report.in_file(FILE, &pair, what, "allow it in a policy of that end");
            }
            if !open.is_empty() {
                let what = format!("allowed and not declared: {}", open.join(", "));
                report.in_file(FILE, &pair, what, "narrow the policies, or declare the flow");
            }
        }
    }
}

fn check_table(table: &Flows, report: &mut Report) {
    for (idx, flow) in table.flows.iter().enumerate() {
        for port in flow.ports.iter().filter(|port| port.parsed().is_none()) {
            report.in_file(
                FILE,
                format!("flow {idx}"),
                format!("{port:?} is no port"),
                "write 8000 or 53/UDP",
            );
        }
    }
}

/// Every pod of the set and, of the table, everybody outside.
pub(super) fn endpoints(set: &Set) -> Vec<Endpoint> {
    let label = set.flows.as_ref().map_or("app.kubernetes.io/name", |table| table.label.as_str());
    let pods = set.workloads().into_iter().enumerate().map(|(idx, pod)| pod_endpoint(set, &pod, label, idx));
    let outside = set.flows.iter().flat_map(|table| &table.endpoints).map(|(name, outside)| Endpoint {
        name: name.clone(),
        shown: name.clone(),
        ip: outside.ip,
        pod: outside.namespace.as_ref().map(|namespace| Pod {
            namespace: namespace.clone(),
            namespace_labels: namespace_labels(set, namespace),
            labels: outside.labels.clone(),
            ports: Vec::new(),
        }),
    });
    pods.chain(outside).collect()
}

fn pod_endpoint(set: &Set, pod: &Workload<'_>, label: &str, idx: usize) -> Endpoint {
    let labels = pod.labels();
    Endpoint {
        name: labels.get(label).cloned().unwrap_or_else(|| pod.object.to_string()),
        shown: pod.object.name().to_owned(),
        // Pods have addresses, so that a policy for the internet that includes the cluster is found.
        ip: IpAddr::V4(Ipv4Addr::new(10, 244, 0, u8::try_from(idx % 250).unwrap_or_default() + 1)),
        pod: Some(Pod {
            namespace: pod.namespace().to_owned(),
            namespace_labels: namespace_labels(set, pod.namespace()),
            ports: pod.ports(),
            labels,
        }),
    }
}

/// The cluster labels each namespace with its name.
fn namespace_labels(set: &Set, name: &str) -> Labels {
    let mut all =
        set.find("Namespace", "", name).map(|namespace| labels(&namespace.value)).unwrap_or_default();
    all.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    all
}

/// Ports to ask for: those that the other end has, and those that the table names.
fn ports(table: &Flows, to: &Endpoint, ours: bool) -> BTreeSet<(u16, String)> {
    let own = to.pod.iter().flat_map(|pod| &pod.ports).map(|port| (port.number, port.protocol.clone()));
    let named = table.flows.iter().filter(|flow| !ours || flow.to.hold(&to.name));
    let named = named.flat_map(|flow| &flow.ports).filter_map(|port| port.parsed());
    let unused = std::iter::once(UNUSED);
    own.chain(named.chain(unused).map(|(port, protocol)| (port, protocol.to_owned()))).collect()
}

fn declares(flow: &Flow, table: &Flows, from: &Endpoint, to: &Endpoint, port: u16, protocol: &str) -> bool {
    let is = |names: &crate::tables::Names, end: &Endpoint| {
        names.hold(&end.name) || (names.hold("*") && !table.endpoints.contains_key(&end.name))
    };
    let label = |end: &Endpoint, name: &str| end.pod.as_ref().and_then(|pod| pod.labels.get(name).cloned());
    let same = flow
        .same
        .as_ref()
        .is_none_or(|name| label(from, name).is_some() && label(from, name) == label(to, name));
    is(&flow.from, from)
        && is(&flow.to, to)
        && same
        && flow.ports.iter().filter_map(|own| own.parsed()).any(|own| own == (port, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found_in, set_with};

    const TABLE: &str = "
label: app
endpoints:
  internet: {ip: 203.0.113.1}
flows:
- {from: internet, to: d, ports: [8000]}
- {from: d, to: internet, ports: [443]}
";
    const DENY: &str = "\n---\nkind: NetworkPolicy\nmetadata: {name: deny, namespace: a}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress]}";
    const ALLOW: &str = "\n---\nkind: NetworkPolicy\nmetadata: {name: allow, namespace: a}\nspec: {podSelector: {matchLabels: {app: d}}, policyTypes: [Ingress, Egress], ingress: [{ports: [{port: http}], from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}], egress: [{ports: [{port: 443}], to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}]}";

    fn found(policies: &str) -> Vec<String> {
        let pod = deployment(
            "containers:\n- {name: c, ports: [{name: http, containerPort: 8000}, {name: other, containerPort: 9000}]}",
        );
        found_in(&RULE, &set_with(&(pod + policies), "", TABLE))
    }

    #[test]
    fn exactly_what_is_declared_is_allowed() {
        assert_eq!(found(&(DENY.to_owned() + ALLOW)), [""; 0]);
    }

    #[test]
    fn what_is_not_let_through_is_found() {
        assert_eq!(
            found(DENY),
            [
                "d → internet: declared, but 443/TCP is not let out",
                "internet → d: declared, but 8000/TCP is not let in"
            ]
        );
    }

    #[test]
    fn what_nobody_declared_is_found() {
        let all_ports = ALLOW.replace("ports: [{port: http}], from", "from");
        assert_eq!(
            found(&(DENY.to_owned() + &all_ports)),
            ["internet → d: allowed and not declared: 9000/TCP, 65000/TCP"]
        );
        let pods_too = ALLOW.replace(", except: [10.0.0.0/8]", "");
        assert_eq!(
            found(&(DENY.to_owned() + &pods_too.replace("port: 443", "port: 8000"))),
            [
                "d → d: allowed and not declared: 8000/TCP",
                "d → internet: declared, but 443/TCP is not let out",
                "d → internet: allowed and not declared: 8000/TCP",
            ]
        );
    }

    #[test]
    fn pairs_may_have_to_share_a_label() {
        let table = "
label: app
endpoints: {}
flows: [{from: w, to: w, ports: [7000], same: model}]
";
        let pod = |model: &str| {
            format!(
                "\n---\nkind: Deployment\nmetadata: {{name: {model}, namespace: a}}\nspec: {{template: {{metadata: {{labels: {{app: w, model: {model}}}}}, spec: {{containers: [{{name: c, ports: [{{containerPort: 7000}}]}}]}}}}}}"
            )
        };
        let policy = "\n---\nkind: NetworkPolicy\nmetadata: {name: one, namespace: a}\nspec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}], ports: [{port: 7000}]}], egress: [{to: [{podSelector: {}}], ports: [{port: 7000}]}]}";
        let set = set_with(&(pod("one") + &pod("two") + policy), "", table);
        let open = "allowed and not declared: 7000/TCP";
        assert_eq!(found_in(&RULE, &set), [format!("one → two: {open}"), format!("two → one: {open}")]);
    }
}

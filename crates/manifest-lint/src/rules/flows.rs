//! Policies allow what flows.yaml declares, and nothing else: each pair of ends and each port is evaluated.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::Rule;
use crate::finding::Report;
use crate::network::{Endpoint, Pod, Policy, Verdict, verdict};
use crate::set::Set;
use crate::tables::{Flow, Flows, Party};
use crate::workload::{Labels, Workload, labels};

pub(super) const RULE: Rule = Rule {
    id: "flows",
    explains: "network policies allow each flow of flows.yaml and no other, between every two pods and every port",
    check,
};

const FILE: &str = "flows.yaml";
/// Every pod that is not of the set: what is said of it need not be said of each of them.
const OTHER_PODS: &str = "others";
/// Networks that pods get addresses of.
const OURS: u8 = 0;
const OTHERS: u8 = 1;
/// A port that nobody has: a rule without ports is found by it.
const UNUSED: (u16, &str) = (65_000, "TCP");
/// Parts that a set may have, with the kind that shows it.
const PARTS: &[(&str, &str)] = &[
    ("autoscaling-keda", "ScaledObject"),
    ("leader-worker-set", "LeaderWorkerSet"),
    ("tls-cert-manager", "Certificate"),
];

/// An end with the parties that it belongs to.
struct End<'a> {
    endpoint: Endpoint,
    parties: Vec<&'a str>,
    /// A manifest of the set makes it.
    ours: bool,
}

fn check(set: &Set, report: &mut Report) {
    let Some(table) = &set.flows else {
        return;
    };
    for flow in &table.flows {
        for party in [&flow.from, &flow.to].into_iter().filter(|party| !is_known(table, party)) {
            report.in_file(FILE, party, "a flow names it, and it is no party", "correct the name, or add it");
        }
    }
    let policies: Vec<_> =
        set.of_kind("NetworkPolicy").filter_map(|object| Policy::parse(object).ok()).collect();
    let needed: Vec<_> = table.flows.iter().filter(|flow| is_needed(set, table, flow)).collect();
    let ends = ends(set);
    for from in &ends {
        for to in ends.iter().filter(|to| from.ours || to.ours) {
            let mut missing = Vec::new();
            let mut open = Vec::new();
            for (port, protocol) in ports(table, to) {
                let declared = needed.iter().any(|flow| declares(flow, from, to, port, &protocol));
                match (declared, verdict(&policies, &from.endpoint, &to.endpoint, port, &protocol)) {
                    (true, Verdict::NotOut) => missing.push(format!("{port}/{protocol} is not let out")),
                    (true, Verdict::NotIn) => missing.push(format!("{port}/{protocol} is not let in")),
                    (false, Verdict::Allowed) => open.push(format!("{port}/{protocol}")),
                    (true, Verdict::Allowed) | (false, Verdict::NotOut | Verdict::NotIn) => {}
                }
            }
            let pair = format!("{} → {}", from.endpoint.name, to.endpoint.name);
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

fn is_known(table: &Flows, party: &str) -> bool {
    party == OTHER_PODS || table.parties.contains_key(party)
}

/// Everybody that a policy may mean.
pub(super) fn endpoints(set: &Set) -> Vec<Endpoint> {
    ends(set).into_iter().map(|end| end.endpoint).collect()
}

/// Every pod of the set and, of the table, everybody outside of it.
fn ends(set: &Set) -> Vec<End<'_>> {
    let mut ends: Vec<End<'_>> = Vec::new();
    let parties = || set.flows.iter().flat_map(|table| &table.parties);
    for pod in set.workloads() {
        let labels = pod.labels();
        let own = parties().filter(|(_, party)| party.is(pod.namespace(), &labels));
        ends.push(End {
            parties: own.map(|(name, _)| name.as_str()).collect(),
            endpoint: of_pod(set, &pod, ends.len()),
            ours: true,
        });
    }
    let Some(table) = &set.flows else {
        return ends;
    };
    let mut outside = Vec::new();
    for (name, party) in
        table.parties.iter().filter(|(name, party)| is_outside(set, table, name, party, &ends))
    {
        let addresses = match party.addresses.as_slice() {
            [] => vec![address(OTHERS, outside.len())],
            addresses => addresses.to_vec(),
        };
        outside.extend(addresses.into_iter().map(|ip| End {
            parties: of_others(name, party),
            endpoint: of_party(set, name, party, ip),
            ours: false,
        }));
    }
    ends.extend(outside);
    ends
}

/// Pods of others, and addresses. Left out is what belongs to a part that is not there.
fn is_outside(set: &Set, table: &Flows, name: &str, party: &Party, ends: &[End<'_>]) -> bool {
    let has_pods = ends.iter().any(|end| end.parties.contains(&name));
    let elsewhere = party.namespace.as_ref().is_none_or(|namespace| set.workloads_in(namespace).is_empty());
    let mut flows = table.flows.iter().filter(|flow| flow.from == name || flow.to == name);
    !has_pods && (elsewhere || !party.addresses.is_empty()) && flows.any(|flow| is_needed(set, table, flow))
}

fn of_pod(set: &Set, pod: &Workload<'_>, idx: usize) -> Endpoint {
    Endpoint {
        name: pod.object.name().to_owned(),
        ip: address(OURS, idx),
        pod: Some(Pod {
            namespace: pod.namespace().to_owned(),
            namespace_labels: namespace_labels(set, pod.namespace()),
            labels: pod.labels(),
            ports: pod.ports(),
        }),
    }
}

fn of_others<'a>(name: &'a str, party: &Party) -> Vec<&'a str> {
    if party.namespace.is_some() { vec![name, OTHER_PODS] } else { vec![name] }
}

fn of_party(set: &Set, name: &str, party: &Party, ip: IpAddr) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        ip,
        pod: party.namespace.as_ref().map(|namespace| Pod {
            namespace: namespace.clone(),
            namespace_labels: namespace_labels(set, namespace),
            labels: party.labels.clone(),
            ports: Vec::new(),
        }),
    }
}

/// Pods have addresses, so that a policy for the internet that includes the cluster is found.
fn address(net: u8, idx: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 244, net, u8::try_from(idx % 250).unwrap_or_default() + 1))
}

/// The cluster labels each namespace with its name.
fn namespace_labels(set: &Set, name: &str) -> Labels {
    let mut all =
        set.find("Namespace", "", name).map(|namespace| labels(&namespace.value)).unwrap_or_default();
    all.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    all
}

/// Ports to ask for: those that the other end has, and those that the table names.
fn ports(table: &Flows, to: &End<'_>) -> BTreeSet<(u16, String)> {
    let own =
        to.endpoint.pod.iter().flat_map(|pod| &pod.ports).map(|port| (port.number, port.protocol.clone()));
    let named = table.flows.iter().filter(|flow| !to.ours || to.parties.contains(&flow.to.as_str()));
    let named = named.flat_map(Flow::ports).chain(std::iter::once(UNUSED));
    own.chain(named.map(|(port, protocol)| (port, protocol.to_owned()))).collect()
}

/// The part of the platform that it belongs to is in the set.
fn is_needed(set: &Set, table: &Flows, flow: &Flow) -> bool {
    let Some(part) = &flow.with else {
        return true;
    };
    if let Some((_, kind)) = PARTS.iter().find(|(name, _)| name == part) {
        return set.of_kind(kind).next().is_some();
    }
    let has_pods = |name: &str| {
        table
            .parties
            .get(name)
            .is_some_and(|party| set.workloads().iter().any(|pod| party.is(pod.namespace(), &pod.labels())))
    };
    has_pods(&flow.from) && has_pods(&flow.to)
}

fn declares(flow: &Flow, from: &End<'_>, to: &End<'_>, port: u16, protocol: &str) -> bool {
    let label =
        |end: &End<'_>, name: &str| end.endpoint.pod.as_ref().and_then(|pod| pod.labels.get(name).cloned());
    let same = flow
        .same
        .as_ref()
        .is_none_or(|name| label(from, name).is_some() && label(from, name) == label(to, name));
    from.parties.contains(&flow.from.as_str())
        && to.parties.contains(&flow.to.as_str())
        && same
        && flow.ports().any(|own| own == (port, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found_in, set_with};

    const TABLE: &str = "
parties:
  internet: {addresses: [203.0.113.1]}
  server: {namespace: a, labels: {app: d}}
flows:
- {from: internet, to: server, ports: [8000]}
- {from: server, to: internet, ports: [443]}
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
    fn a_part_that_is_not_there_needs_no_flow() {
        let table =
            TABLE.to_owned() + "- {from: server, to: server, ports: [9000], with: autoscaling-keda}\n";
        let pod = deployment(
            "containers:\n- {name: c, ports: [{name: http, containerPort: 8000}, {name: other, containerPort: 9000}]}",
        );
        let found = |more: &str| found_in(&RULE, &set_with(&(pod.clone() + DENY + ALLOW + more), "", &table));
        assert_eq!(found(""), [""; 0]);
        let scaled = "\n---\nkind: ScaledObject\nmetadata: {name: s, namespace: a}";
        assert_eq!(found(scaled), ["d → d: declared, but 9000/TCP is not let out"]);
    }

    #[test]
    fn names_of_no_party_are_found() {
        let table = TABLE.replace("to: internet", "to: intranet");
        let found = found_in(&RULE, &set_with(DENY, "", &table));
        assert_eq!(found, ["intranet: a flow names it, and it is no party"]);
    }

    #[test]
    fn pods_of_others_are_asked_about_too() {
        let table = TABLE.replace("parties:", "parties:\n  dns: {namespace: kube-system}")
            + "- {from: dns, to: internet, ports: [9]}";
        let pod = deployment("containers:\n- {name: c, ports: [{name: http, containerPort: 8000}]}");
        let open = ALLOW
            .replace(", from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}], egress", "}], egress");
        assert_eq!(
            found_in(&RULE, &set_with(&(pod + DENY + &open), "", &table)),
            ["dns → d: allowed and not declared: 8000/TCP"]
        );
    }

    #[test]
    fn all_pods_of_others_may_be_named_at_once() {
        let table = TABLE.replace("parties:", "parties:\n  dns: {namespace: kube-system}")
            + "- {from: dns, to: internet, ports: [9]}\n- {from: others, to: server, ports: [8000]}";
        let pod = deployment("containers:\n- {name: c, ports: [{name: http, containerPort: 8000}]}");
        let open = ALLOW
            .replace(", from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}]}], egress", "}], egress");
        assert_eq!(found_in(&RULE, &set_with(&(pod.clone() + DENY + &open), "", &table)), [""; 0]);
        assert_eq!(
            found_in(&RULE, &set_with(&(pod + DENY + ALLOW), "", &table)),
            ["dns → d: declared, but 8000/TCP is not let in"]
        );
    }

    #[test]
    fn pairs_may_have_to_share_a_label() {
        let table = "
parties: {w: {namespace: a, labels: {app: w}}}
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

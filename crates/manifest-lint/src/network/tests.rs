//! The evaluator against cases of the Kubernetes documentation, and against a second formulation of its rules.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Endpoint, Pod, Policy, Verdict, verdict};
use crate::look::Look as _;
use crate::object::Object;
use crate::workload::{Labels, Port};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn pod(namespace: &str, namespace_labels: &[(&str, &str)], own: &[(&str, &str)], ip: &str) -> Endpoint {
    let ports = vec![Port { name: "web".to_owned(), number: 80, protocol: "TCP".to_owned() }];
    let pod = Pod {
        namespace: namespace.to_owned(),
        namespace_labels: labels(namespace_labels),
        labels: labels(own),
        ports,
    };
    Endpoint { name: String::new(), pod: Some(pod), ip: address(ip) }
}

fn outside(ip: &str) -> Endpoint {
    Endpoint { name: String::new(), pod: None, ip: address(ip) }
}

fn address(ip: &str) -> IpAddr {
    ip.parse().unwrap()
}

fn policy(namespace: &str, spec: Value) -> Policy {
    let value =
        json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": namespace}, "spec": spec});
    Policy::parse(&Object { file: String::new(), value }).unwrap()
}

/// The policy that the page "Network Policies" of the documentation begins with.
fn documented() -> Policy {
    policy(
        "default",
        json!({
            "podSelector": {"matchLabels": {"role": "db"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{
                "from": [
                    {"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                    {"namespaceSelector": {"matchLabels": {"project": "myproject"}}},
                    {"podSelector": {"matchLabels": {"role": "frontend"}}},
                ],
                "ports": [{"protocol": "TCP", "port": 6379}],
            }],
            "egress": [{
                "to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
                "ports": [{"protocol": "TCP", "port": 5978}],
            }],
        }),
    )
}

#[test]
fn the_documented_policy_means_what_its_page_says() {
    let policies = [documented()];
    let db = pod("default", &[], &[("role", "db")], "10.244.0.1");
    let frontend = pod("default", &[], &[("role", "frontend")], "10.244.0.2");
    let project = pod("other", &[("project", "myproject")], &[], "10.244.0.3");
    let stranger = pod("other", &[], &[("role", "frontend")], "10.244.0.4");
    let says = |from: &Endpoint, to: &Endpoint, port| verdict(&policies, from, to, port, "TCP");
    assert_eq!(says(&frontend, &db, 6379), Verdict::Allowed);
    assert_eq!(says(&project, &db, 6379), Verdict::Allowed);
    assert_eq!(says(&outside("172.17.0.9"), &db, 6379), Verdict::Allowed);
    assert_eq!(says(&outside("172.17.2.9"), &db, 6379), Verdict::Allowed);
    assert_eq!(says(&outside("172.17.1.9"), &db, 6379), Verdict::NotIn);
    assert_eq!(says(&stranger, &db, 6379), Verdict::NotIn);
    assert_eq!(says(&frontend, &db, 6380), Verdict::NotIn);
    assert_eq!(verdict(&policies, &frontend, &db, 6379, "UDP"), Verdict::NotIn);
    assert_eq!(says(&db, &outside("10.0.0.7"), 5978), Verdict::Allowed);
    assert_eq!(says(&db, &outside("10.0.1.7"), 5978), Verdict::NotOut);
    assert_eq!(says(&db, &frontend, 5978), Verdict::NotOut);
    assert_eq!(says(&frontend, &stranger, 1), Verdict::Allowed, "no policy selects either");
}

#[test]
fn selectors_of_one_item_are_and_of_two_items_or() {
    let (users, client) =
        (json!({"matchLabels": {"user": "alice"}}), json!({"matchLabels": {"role": "client"}}));
    let both = policy(
        "default",
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": users, "podSelector": client}]}]}),
    );
    let either = policy(
        "default",
        json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": users}, {"podSelector": client}]}]}),
    );
    let to = pod("default", &[], &[], "10.244.0.1");
    let alice_client = pod("a", &[("user", "alice")], &[("role", "client")], "10.244.0.2");
    let alice_other = pod("a", &[("user", "alice")], &[], "10.244.0.3");
    let local_client = pod("default", &[], &[("role", "client")], "10.244.0.4");
    let distant_client = pod("b", &[], &[("role", "client")], "10.244.0.5");
    for (from, with_and, with_or) in [
        (&alice_client, true, true),
        (&alice_other, false, true),
        (&local_client, false, true),
        (&distant_client, false, false),
    ] {
        assert_eq!(verdict(std::slice::from_ref(&both), from, &to, 1, "TCP") == Verdict::Allowed, with_and);
        assert_eq!(verdict(std::slice::from_ref(&either), from, &to, 1, "TCP") == Verdict::Allowed, with_or);
    }
}

#[test]
fn the_documented_defaults_mean_what_their_page_says() {
    let (one, two) = (pod("default", &[], &[], "10.244.0.1"), pod("other", &[], &[], "10.244.0.2"));
    let cases = [
        (json!({"podSelector": {}, "policyTypes": ["Ingress"]}), Verdict::NotIn, Verdict::Allowed),
        (
            json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}),
            Verdict::Allowed,
            Verdict::Allowed,
        ),
        (json!({"podSelector": {}, "policyTypes": ["Egress"]}), Verdict::Allowed, Verdict::NotOut),
        (
            json!({"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}),
            Verdict::Allowed,
            Verdict::Allowed,
        ),
        (json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), Verdict::NotIn, Verdict::NotOut),
        // Without policyTypes: always what comes in, and what goes out where there are rules for it.
        (json!({"podSelector": {}}), Verdict::NotIn, Verdict::Allowed),
        (json!({"podSelector": {}, "egress": [{"ports": [{"port": 1}]}]}), Verdict::NotIn, Verdict::NotOut),
    ];
    for (spec, into, out) in cases {
        let policies = [policy("default", spec.clone())];
        assert_eq!(verdict(&policies, &two, &one, 80, "TCP"), into, "{spec}");
        assert_eq!(verdict(&policies, &one, &two, 80, "TCP"), out, "{spec}");
    }
}

#[test]
fn ports_may_be_ranges_and_names() {
    let (from, to) = (pod("default", &[], &[], "10.244.0.1"), pod("default", &[], &[], "10.244.0.2"));
    let allowed = |port: Value, asked| {
        let policies = [policy("default", json!({"podSelector": {}, "ingress": [{"ports": [port]}]}))];
        verdict(&policies, &from, &to, asked, "TCP") == Verdict::Allowed
    };
    let range = json!({"protocol": "TCP", "port": 32000, "endPort": 32768});
    assert!(allowed(range.clone(), 32000) && allowed(range.clone(), 32768));
    assert!(!allowed(range.clone(), 31999) && !allowed(range, 32769));
    assert!(allowed(json!({"port": "web"}), 80) && !allowed(json!({"port": "web"}), 81));
    assert!(!allowed(json!({"port": "web", "protocol": "UDP"}), 80));
    assert!(allowed(json!({"protocol": "TCP"}), 9) && !allowed(json!({"protocol": "UDP"}), 9));
}

#[test]
fn policies_add_up_and_an_empty_list_means_everybody() {
    let (from, to) = (pod("default", &[], &[], "10.244.0.1"), pod("default", &[], &[], "10.244.0.2"));
    let one = |port: u16| {
        policy("default", json!({"podSelector": {}, "ingress": [{"from": [], "ports": [{"port": port}]}]}))
    };
    let policies = [one(1), one(2)];
    for (port, expected) in [(1, Verdict::Allowed), (2, Verdict::Allowed), (3, Verdict::NotIn)] {
        assert_eq!(verdict(&policies, &from, &to, port, "TCP"), expected);
    }
}

#[test]
fn what_has_no_known_form_is_an_error() {
    let specs = [
        json!({"podSelector": {}, "ingress": [{"from": [{}]}]}),
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}, "ipBlock": {"cidr": "0.0.0.0/0"}}]}]}),
        json!({"podSelector": {}, "egress": [{"ports": [{"port": 70000}]}]}),
        json!({"ingress": []}),
    ];
    for spec in specs {
        let value =
            json!({"kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        assert!(Policy::parse(&Object { file: String::new(), value }).is_err(), "{spec}");
    }
}

// === the second formulation: what each policy allows is written out as a set of connections, and looked up ===

const PORTS: [u16; 3] = [79, 80, 81];
const PROTOCOLS: [&str; 2] = ["TCP", "UDP"];

/// A connection: from, to, port, protocol.
type Connection = (usize, usize, u16, &'static str);

/// All connections that `policies` leave, out of all there can be.
fn left(policies: &[Value], ends: &[Endpoint]) -> BTreeSet<Connection> {
    let mut all = BTreeSet::new();
    for from in 0..ends.len() {
        for to in 0..ends.len() {
            for port in PORTS {
                all.extend(PROTOCOLS.map(|protocol| (from, to, port, protocol)));
            }
        }
    }
    for (direction, is_in) in [("ingress", true), ("egress", false)] {
        let own = |connection: &Connection| if is_in { connection.1 } else { connection.0 };
        let mut closed = BTreeSet::new();
        let mut opened = BTreeSet::new();
        for policy in policies.iter().filter(|policy| covers(policy, direction)) {
            let selected: BTreeSet<usize> = (0..ends.len())
                .filter(|end| {
                    let pod = ends[*end].pod.as_ref();
                    pod.is_some_and(|pod| {
                        pod.namespace == policy.text("namespace")
                            && fits(policy.at("spec.podSelector"), &pod.labels)
                    })
                })
                .collect();
            for connection in all.iter().filter(|connection| selected.contains(&own(connection))) {
                closed.insert(*connection);
                for rule in policy.items(&format!("spec.{direction}")) {
                    if opens(rule, policy.text("namespace"), ends, *connection, is_in) {
                        opened.insert(*connection);
                    }
                }
            }
        }
        all.retain(|connection| !closed.contains(connection) || opened.contains(connection));
    }
    all
}

fn covers(policy: &Value, direction: &str) -> bool {
    let types = policy.items("spec.policyTypes");
    match (types.is_empty(), direction) {
        (true, "ingress") => true,
        (true, _) => policy.has("spec.egress"),
        (false, _) => types.iter().any(|one| one.as_str().unwrap().to_lowercase() == direction),
    }
}

fn opens(rule: &Value, namespace: &str, ends: &[Endpoint], connection: Connection, is_in: bool) -> bool {
    let (from, to, port, protocol) = connection;
    let peer = &ends[if is_in { from } else { to }];
    let peers = rule.items(if is_in { "from" } else { "to" });
    let ports = rule.items("ports");
    let peer_fits = peers.is_empty()
        || peers.iter().any(|item| {
            if item.has("ipBlock") {
                // Blocks of whole octets only.
                let prefix = |value: &Value| {
                    value.as_str().unwrap().split('/').next().unwrap().trim_end_matches(".0").to_owned() + "."
                };
                let inside = |value: &Value| {
                    value.as_str() == Some("0.0.0.0/0") || peer.ip.to_string().starts_with(&prefix(value))
                };
                return inside(item.at("ipBlock.cidr")) && !item.items("ipBlock.except").iter().any(inside);
            }
            let Some(pod) = &peer.pod else { return false };
            let space = if item.has("namespaceSelector") {
                fits(item.at("namespaceSelector"), &pod.namespace_labels)
            } else {
                pod.namespace == namespace
            };
            space && (!item.has("podSelector") || fits(item.at("podSelector"), &pod.labels))
        });
    let port_fits = ports.is_empty()
        || ports.iter().any(|item| {
            let same = (if item.has("protocol") { item.text("protocol") } else { "TCP" }) == protocol;
            let named: Vec<u16> = match item.at("port") {
                Value::Null => PORTS.to_vec(),
                // Every pod here calls port 80 of TCP `web`.
                Value::String(_) if ends[to].pod.is_some() && protocol == "TCP" => vec![80],
                Value::String(_) => Vec::new(),
                first => {
                    let first = first.as_u64().unwrap();
                    let last = item.at("endPort").as_u64().unwrap_or(first);
                    (first..=last).map(|port| port as u16).collect()
                }
            };
            same && named.contains(&port)
        });
    peer_fits && port_fits
}

fn fits(selector: &Value, labels: &Labels) -> bool {
    let pairs =
        selector.entries("matchLabels").all(|(key, value)| labels.get(key).is_some_and(|own| own == value));
    pairs
        && selector.items("matchExpressions").iter().all(|one| {
            let own = labels.get(one.text("key")).map(String::as_str).unwrap_or("(none)");
            let values: Vec<_> = one.items("values").iter().map(|value| value.as_str().unwrap()).collect();
            match one.text("operator") {
                "In" => values.contains(&own),
                "NotIn" => !values.contains(&own),
                "Exists" => own != "(none)",
                _ => own == "(none)",
            }
        })
}

fn a_selector() -> impl Strategy<Value = Value> {
    let value = prop::sample::select(vec!["x", "y"]);
    let key = prop::sample::select(vec!["k", "l"]);
    let expression =
        (key.clone(), prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist"]), value.clone())
            .prop_map(|(key, operator, value)| match operator {
                "In" | "NotIn" => json!({"key": key, "operator": operator, "values": [value]}),
                _ => json!({"key": key, "operator": operator}),
            });
    prop_oneof![
        Just(json!({})),
        (key, value).prop_map(|(key, value)| json!({"matchLabels": {key: value}})),
        prop::collection::vec(expression, 1..3).prop_map(|list| json!({"matchExpressions": list})),
    ]
}

fn a_peer() -> impl Strategy<Value = Value> {
    let block = prop::sample::select(vec!["0.0.0.0/0", "10.0.0.0/8", "10.244.0.0/16", "203.0.113.0/24"]);
    prop_oneof![
        a_selector().prop_map(|pods| json!({"podSelector": pods})),
        a_selector().prop_map(|spaces| json!({"namespaceSelector": spaces})),
        (a_selector(), a_selector())
            .prop_map(|(pods, spaces)| json!({"podSelector": pods, "namespaceSelector": spaces})),
        (block.clone(), prop::option::of(block)).prop_map(|(cidr, except)| match except {
            Some(except) => json!({"ipBlock": {"cidr": cidr, "except": [except]}}),
            None => json!({"ipBlock": {"cidr": cidr}}),
        }),
    ]
}

fn a_port() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(PROTOCOLS.to_vec()).prop_map(|protocol| json!({"protocol": protocol})),
        Just(json!({"port": "web"})),
        (79_u16..82).prop_map(|port| json!({"port": port, "protocol": "UDP"})),
        (79_u16..81).prop_map(|port| json!({"port": port, "endPort": port + 1})),
    ]
}

fn a_policy() -> impl Strategy<Value = Value> {
    let rules = |peers: &'static str| {
        let rule = (prop::collection::vec(a_peer(), 0..3), prop::collection::vec(a_port(), 0..3));
        prop::collection::vec(
            rule.prop_map(move |(items, ports)| json!({peers: items, "ports": ports})),
            0..3,
        )
    };
    let types = prop::sample::select(vec![
        json!([]),
        json!(["Ingress"]),
        json!(["Egress"]),
        json!(["Ingress", "Egress"]),
    ]);
    let namespace = prop::sample::select(vec!["a", "b"]);
    (namespace, a_selector(), types, prop::option::of(rules("from")), prop::option::of(rules("to"))).prop_map(
        |(namespace, pods, types, ingress, egress)| {
            let mut spec = json!({"podSelector": pods, "policyTypes": types});
            for (key, rules) in [("ingress", ingress), ("egress", egress)] {
                if let Some(rules) = rules {
                    spec[key] = json!(rules);
                }
            }
            json!({"namespace": namespace, "spec": spec})
        },
    )
}

fn everybody() -> Vec<Endpoint> {
    let space_a: &[(&str, &str)] = &[("k", "x")];
    let space_b: &[(&str, &str)] = &[("k", "y"), ("l", "x")];
    vec![
        pod("a", space_a, &[], "10.244.0.1"),
        pod("a", space_a, &[("k", "x")], "10.244.0.2"),
        pod("b", space_b, &[("k", "x"), ("l", "y")], "10.244.0.3"),
        pod("b", space_b, &[("l", "x")], "10.9.0.4"),
        outside("203.0.113.7"),
        outside("10.1.2.3"),
    ]
}

proptest! {
    #[test]
    fn both_formulations_agree(policies in prop::collection::vec(a_policy(), 0..4)) {
        let ends = everybody();
        let parsed: Vec<_> = policies.iter().map(|one| policy(one.text("namespace"), one.at("spec").clone())).collect();
        let expected = left(&policies, &ends);
        for (from_idx, from) in ends.iter().enumerate() {
            for (to_idx, to) in ends.iter().enumerate() {
                for port in PORTS {
                    for protocol in PROTOCOLS {
                        let allowed = verdict(&parsed, from, to, port, protocol) == Verdict::Allowed;
                        let connection = (from_idx, to_idx, port, protocol);
                        prop_assert_eq!(allowed, expected.contains(&connection), "{:?} {:?}", connection, &policies);
                    }
                }
            }
        }
    }
}

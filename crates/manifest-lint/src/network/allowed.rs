//! The decision: both ends must allow a connection.

use super::endpoint::{Endpoint, Pod};
use super::policy::{Allow, Peer, Policy, PortRange, Ports};
use super::selector::selects;

/// What policies say about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// Policies of whoever starts it do not let it out.
    NotOut,
    /// Policies of whoever is talked to do not let it in.
    NotIn,
}

/// May `from` talk to `to` on this port?
pub(crate) fn verdict(
    policies: &[Policy],
    from: &Endpoint,
    to: &Endpoint,
    port: u16,
    protocol: &str,
) -> Verdict {
    let passes = |end: &Endpoint, peer: &Endpoint, rules: fn(&Policy) -> Option<&Vec<Allow>>| {
        let Some(pod) = &end.pod else {
            return true;
        };
        let of_end = policies.iter().filter(|policy| is_about(policy, pod));
        let about: Vec<_> = of_end.filter_map(|policy| Some((policy, rules(policy)?))).collect();
        about.is_empty()
            || about.iter().any(|(policy, rules)| {
                rules
                    .iter()
                    .any(|rule| matches_peer(rule, policy, peer) && matches_port(rule, to, port, protocol))
            })
    };
    if !passes(from, to, |policy| policy.egress.as_ref()) {
        Verdict::NotOut
    } else if !passes(to, from, |policy| policy.ingress.as_ref()) {
        Verdict::NotIn
    } else {
        Verdict::Allowed
    }
}

fn is_about(policy: &Policy, pod: &Pod) -> bool {
    policy.namespace == pod.namespace && selects(&policy.pods, &pod.labels)
}

fn matches_peer(rule: &Allow, policy: &Policy, peer: &Endpoint) -> bool {
    let Some(peers) = &rule.peers else {
        return true;
    };
    peers.iter().any(|item| item.is(policy, peer))
}

fn matches_port(rule: &Allow, to: &Endpoint, port: u16, protocol: &str) -> bool {
    let Some(ports) = &rule.ports else {
        return true;
    };
    ports.iter().any(|range| range.protocol == protocol && range.holds(to, port))
}

// === impl Peer ===

impl Peer {
    /// This item means `endpoint`, in a policy of that namespace.
    pub(crate) fn is(&self, policy: &Policy, endpoint: &Endpoint) -> bool {
        match self {
            Self::Block { cidr, except } => {
                cidr.contains(&endpoint.ip) && !except.iter().any(|block| block.contains(&endpoint.ip))
            }
            Self::Pods { namespaces, pods } => endpoint.pod.as_ref().is_some_and(|pod| {
                let in_namespace = match namespaces {
                    Some(selector) => selects(selector, &pod.namespace_labels),
                    None => policy.namespace == pod.namespace,
                };
                in_namespace && pods.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
            }),
        }
    }
}

// === impl PortRange ===

impl PortRange {
    fn holds(&self, to: &Endpoint, port: u16) -> bool {
        match &self.ports {
            Ports::All => true,
            Ports::Range(first, last) => (*first..=*last).contains(&port),
            Ports::Named(name) => to.pod.as_ref().is_some_and(|pod| {
                let mut ports = pod.ports.iter();
                ports.any(|own| own.name == *name && own.number == port && own.protocol == self.protocol)
            }),
        }
    }
}

//! Network policies select somebody, on both sides.

use serde_json::Value;

use super::Rule;
use super::flows::endpoints;
use crate::finding::Report;
use crate::look::Look as _;
use crate::network::{Peer, Policy};
use crate::object::Object;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "policy",
    explains: "network policies have a known form, select pods and peers that exist, and namespaces by kubernetes.io/metadata.name",
    check,
};

/// The one label that every namespace has by itself.
const NAME: &str = "kubernetes.io/metadata.name";

fn check(set: &Set, report: &mut Report) {
    let everybody = endpoints(set);
    for object in set.of_kind("NetworkPolicy") {
        let policy = match Policy::parse(object) {
            Ok(policy) => policy,
            Err(what) => {
                report.at(object, what, "see `kubectl explain networkpolicy.spec`");
                continue;
            }
        };
        let pods = set.workloads_in(object.namespace());
        if !pods.iter().any(|pod| pod.is_selected_by(&policy.pods)) {
            report.at(object, "it selects no pod", "correct podSelector");
        }
        for peer in policy.peers() {
            check_peer(object, peer, report);
            let known =
                matches!(peer, Peer::Block { .. }) || everybody.iter().any(|end| peer.is(&policy, end));
            if !known {
                report.at(object, format!("nobody is what {} selects", shown(peer)), "correct the selector");
            }
        }
    }
}

fn check_peer(object: &Object, peer: &Peer, report: &mut Report) {
    let Peer::Pods { namespaces: Some(selector), .. } = peer else {
        return;
    };
    let in_map = selector.entries("matchLabels").map(|(key, _)| key);
    let in_list = selector.items("matchExpressions").iter().map(|expression| expression.text("key"));
    for key in in_map.chain(in_list).filter(|key| *key != NAME) {
        report.at(
            object,
            format!("it selects namespaces by `{key}`, which anybody may set"),
            format!("use {NAME}"),
        );
    }
}

fn shown(peer: &Peer) -> String {
    match peer {
        Peer::Block { cidr, .. } => cidr.to_string(),
        Peer::Pods { namespaces, pods } => {
            let text = |name: &str, selector: &Option<Value>| {
                selector.as_ref().map(|value| format!("{name} {value}"))
            };
            let parts = [text("namespaceSelector", namespaces), text("podSelector", pods)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(" with ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(selector: &str, peer: &str) -> String {
        deployment("containers:\n- {name: c}")
            + &format!(
                "\n---\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: a}}\nspec: {{podSelector: {selector}, ingress: [{{from: [{peer}]}}]}}"
            )
    }

    #[test]
    fn selectors_find_somebody() {
        let pod = "{matchLabels: {app: d}}";
        let peer = "{podSelector: {matchLabels: {app: d}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: a}}}";
        assert_eq!(found(&RULE, &documents(pod, peer)), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("{matchLabels: {app: x}}", peer)),
            ["NetworkPolicy a/p: it selects no pod"]
        );
        assert_eq!(
            found(&RULE, &documents(pod, "{podSelector: {matchLabels: {app: x}}}")),
            ["NetworkPolicy a/p: nobody is what podSelector {\"matchLabels\":{\"app\":\"x\"}} selects"]
        );
        assert_eq!(
            found(
                &RULE,
                &documents(
                    pod,
                    "{namespaceSelector: {matchExpressions: [{key: name, operator: DoesNotExist}]}}"
                )
            ),
            ["NetworkPolicy a/p: it selects namespaces by `name`, which anybody may set"]
        );
        assert_eq!(
            found(&RULE, &documents(pod, "{ipBlock: {cidr: 10.0.0.0/33}}")),
            ["NetworkPolicy a/p: `10.0.0.0/33` is no address block"]
        );
    }
}

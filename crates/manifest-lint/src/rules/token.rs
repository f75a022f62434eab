//! Only who asks the API server has a token for it.

use serde_json::Value;

use super::Rule;
use super::rbac::bound;
use crate::finding::Report;
use crate::look::Look as _;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "token",
    explains: "pods have no token of the API server, except those whose account is bound to a role",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        let account = pod.service_account();
        let declared = set.find("ServiceAccount", pod.namespace(), account);
        let of_account =
            declared.map_or(&Value::Null, |account| account.value.at("automountServiceAccountToken"));
        let own = pod.spec().at("automountServiceAccountToken");
        let mounted = own.as_bool().or(of_account.as_bool()).unwrap_or(true);
        match (mounted, bound(set, pod.namespace(), account).is_empty()) {
            (true, true) => report.at(
                pod.object,
                "it has a token of the API server, and no right to use it for",
                "set automountServiceAccountToken: false",
            ),
            (false, false) => report.at(
                pod.object,
                format!("ServiceAccount {account} is bound to a role, and the pod has no token"),
                "set automountServiceAccountToken: true, or delete the binding",
            ),
            (true, false) | (false, true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    const BINDING: &str = "\n---\nkind: RoleBinding\nmetadata: {name: b, namespace: a}\nsubjects: [{kind: ServiceAccount, name: s}]";

    fn pod(token: &str) -> String {
        deployment(&format!("serviceAccountName: s\n{token}\ncontainers:\n- {{name: c}}"))
    }

    #[test]
    fn a_token_goes_with_a_role() {
        let (with, without) =
            (pod("automountServiceAccountToken: true"), pod("automountServiceAccountToken: false"));
        assert_eq!(found(&RULE, &without), [""; 0]);
        assert_eq!(found(&RULE, &(with.clone() + BINDING)), [""; 0]);
        assert_eq!(found(&RULE, &with).len(), 1);
        assert_eq!(found(&RULE, &(without + BINDING)).len(), 1);
    }

    #[test]
    fn the_account_may_say_it_and_the_default_is_yes() {
        let account = "\n---\nkind: ServiceAccount\nmetadata: {name: s, namespace: a}\nautomountServiceAccountToken: false";
        assert_eq!(found(&RULE, &(pod("") + account)), [""; 0]);
        assert_eq!(found(&RULE, &pod("")).len(), 1);
    }
}

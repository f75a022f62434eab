//! Rights lead somewhere, and are no more than what is needed.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "rbac",
    explains: "bindings name roles and accounts that exist; no role has `*` or reads secrets",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for binding in bindings(set) {
        let kind = binding.value.text("roleRef.kind");
        let namespace = if kind == "Role" { binding.namespace() } else { "" };
        let name = binding.value.text("roleRef.name");
        if set.find(kind, namespace, name).is_none() && !name.starts_with("system:") {
            report.at(binding, format!("{kind} {name} does not exist"), "correct roleRef");
        }
        for subject in binding.value.items("subjects") {
            let (namespace, name) = (namespace_of(subject, binding), subject.text("name"));
            let is_account = subject.text("kind") == "ServiceAccount";
            if is_account && set.find("ServiceAccount", namespace, name).is_none() {
                report.at(
                    binding,
                    format!("ServiceAccount {namespace}/{name} does not exist"),
                    "correct the subject",
                );
            }
        }
    }
    for role in set.of_kind("Role").chain(set.of_kind("ClusterRole")) {
        for rule in role.value.items("rules") {
            let holds =
                |list: &str, word: &str| rule.items(list).iter().any(|item| item.as_str() == Some(word));
            if ["verbs", "resources", "apiGroups"].iter().any(|list| holds(list, "*")) {
                report.at(role, "a rule has `*`", "name what is needed");
            }
            if holds("resources", "secrets") {
                report.at(role, "it may read secrets", "mount the ones that are needed");
            }
        }
    }
}

pub(super) fn bindings(set: &Set) -> impl Iterator<Item = &Object> {
    set.of_kind("RoleBinding").chain(set.of_kind("ClusterRoleBinding"))
}

fn namespace_of<'a>(subject: &'a serde_json::Value, binding: &'a Object) -> &'a str {
    match subject.text("namespace") {
        "" => binding.namespace(),
        namespace => namespace,
    }
}

/// The bindings that give rights to this account.
pub(super) fn bound<'a>(set: &'a Set, namespace: &str, account: &str) -> Vec<&'a Object> {
    let of_account = bindings(set).filter(|binding| {
        binding.value.items("subjects").iter().any(|subject| {
            subject.text("kind") == "ServiceAccount"
                && subject.text("name") == account
                && namespace_of(subject, binding) == namespace
        })
    });
    of_account.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    const GOOD: &str = "
kind: Role
metadata: {name: r, namespace: a}
rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]
---
kind: ServiceAccount
metadata: {name: s, namespace: a}
---
kind: RoleBinding
metadata: {name: b, namespace: a}
roleRef: {kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: s}]
";

    #[test]
    fn role_and_account_exist_in_the_namespace() {
        assert_eq!(found(&RULE, GOOD), [""; 0]);
        let role = GOOD.replace("{name: r, namespace: a}", "{name: r, namespace: b}");
        assert_eq!(found(&RULE, &role), ["RoleBinding a/b: Role r does not exist"]);
        let account = GOOD.replace("{name: s, namespace: a}", "{name: s, namespace: b}");
        assert_eq!(found(&RULE, &account), ["RoleBinding a/b: ServiceAccount a/s does not exist"]);
    }

    #[test]
    fn rights_are_narrow() {
        assert_eq!(found(&RULE, &GOOD.replace("[list]", "['*']")), ["Role a/r: a rule has `*`"]);
        assert_eq!(found(&RULE, &GOOD.replace("[pods]", "[secrets]")), ["Role a/r: it may read secrets"]);
    }
}

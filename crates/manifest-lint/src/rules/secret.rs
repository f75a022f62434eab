//! Secrets exist where they are used, with the keys that are asked for, made by whoever is declared to make them.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::mounts::secret_references;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "secret",
    explains: "each Secret key that is named exists in that namespace: in secrets.yaml, an ExternalSecret or a Certificate",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for reference in secret_references(&pod) {
            let (namespace, name) = (pod.namespace(), reference.name);
            let Some(keys) = set.secret_keys(namespace, name) else {
                report.at(
                    pod.object,
                    format!("nobody makes Secret {name} in {namespace}"),
                    "correct the name, or add it to secrets.yaml and make-secrets.sh",
                );
                continue;
            };
            if let Some(key) = reference.key.filter(|key| !keys.contains(key)) {
                report.at(
                    pod.object,
                    format!("Secret {name} has no key {key}"),
                    format!("it has {}", keys.join(", ")),
                );
            }
            let may_be_missing = set.secrets.find(namespace, name).is_some_and(|entry| entry.optional);
            if may_be_missing && !reference.optional && reference.key.is_none() {
                report.at(
                    pod.object,
                    format!("Secret {name} may be missing, and then the pod does not start"),
                    "write optional: true",
                );
            }
        }
    }
    for trigger in set.of_kind("TriggerAuthentication") {
        for target in trigger.value.items("spec.secretTargetRef") {
            let (name, key) = (target.text("name"), target.text("key"));
            let keys = set.secret_keys(trigger.namespace(), name);
            if !keys.is_some_and(|keys| keys.contains(&key)) {
                report.at(
                    trigger,
                    format!("there is no Secret {name} with key {key}"),
                    "correct the reference",
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found, found_in, set_with};

    const POD: &str = "
containers:
- {name: c, env: [{name: X, valueFrom: {secretKeyRef: {name: one, key: k}}}]}
volumes:
- {name: v, secret: {secretName: two}}";

    #[test]
    fn the_table_external_secrets_and_certificates_make_them() {
        let external = "\n---\nkind: ExternalSecret\nmetadata: {name: e, namespace: a}\nspec: {target: {name: one}, data: [{secretKey: k}]}";
        let certificate =
            "\n---\nkind: Certificate\nmetadata: {name: e, namespace: a}\nspec: {secretName: two}";
        assert_eq!(found(&RULE, &(deployment(POD) + external + certificate)), [""; 0]);
        let table = "secrets: [{name: one, namespace: a, keys: [k]}, {name: two, namespace: a, keys: [k]}]";
        assert_eq!(found_in(&RULE, &set_with(&deployment(POD), table, "")), [""; 0]);
    }

    #[test]
    fn missing_ones_and_missing_keys_are_found() {
        let table =
            "secrets: [{name: one, namespace: a, keys: [other]}, {name: two, namespace: b, keys: [k]}]";
        assert_eq!(
            found_in(&RULE, &set_with(&deployment(POD), table, "")),
            ["Deployment a/d: nobody makes Secret two in a", "Deployment a/d: Secret one has no key k"]
        );
    }

    #[test]
    fn what_may_be_missing_is_referred_to_as_such() {
        let table = "secrets: [{name: one, namespace: a, keys: [k]}, {name: two, namespace: a, keys: [k], optional: true}]";
        assert_eq!(
            found_in(&RULE, &set_with(&deployment(POD), table, "")),
            ["Deployment a/d: Secret two may be missing, and then the pod does not start"]
        );
        let optional = POD.replace("secretName: two", "secretName: two, optional: true");
        assert_eq!(found_in(&RULE, &set_with(&deployment(&optional), table, "")), [""; 0]);
    }

    #[test]
    fn triggers_read_secrets_as_well() {
        let trigger = "kind: TriggerAuthentication\nmetadata: {name: t, namespace: a}\nspec: {secretTargetRef: [{name: s, key: k}]}";
        assert_eq!(found(&RULE, trigger), ["TriggerAuthentication a/t: there is no Secret s with key k"]);
    }
}

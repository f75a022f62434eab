//! ConfigMaps stand where the pods are that use them, with the keys that are asked for.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::mounts::config_references;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "config-map",
    explains: "each ConfigMap, and each key of it, that a pod names exists in the namespace of the pod",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for reference in config_references(&pod).into_iter().filter(|reference| !reference.optional) {
            let name = reference.name;
            let Some(object) = set.find("ConfigMap", pod.namespace(), name) else {
                let elsewhere = set.of_kind("ConfigMap").find(|object| object.name() == name);
                let remedy = match elsewhere {
                    Some(object) => {
                        format!("it stands in {}; make one for each namespace", object.namespace())
                    }
                    None => "generate it in the kustomization".to_owned(),
                };
                report.at(pod.object, format!("ConfigMap {name} is not in {}", pod.namespace()), remedy);
                continue;
            };
            let has = |key: &str| {
                object.value.at("data").get(key).or_else(|| object.value.at("binaryData").get(key))
            };
            if let Some(key) = reference.key.filter(|key| has(key).is_none()) {
                report.at(pod.object, format!("ConfigMap {name} has no key {key}"), "correct the key");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    const POD: &str = "
containers:
- {name: c, env: [{name: X, valueFrom: {configMapKeyRef: {name: one, key: k}}}]}
volumes:
- {name: v, projected: {sources: [{configMap: {name: two, items: [{key: k, path: p}]}}]}}";

    fn config(name: &str, namespace: &str, key: &str) -> String {
        format!(
            "\n---\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata: {{{key}: x}}\n"
        )
    }

    #[test]
    fn both_must_be_there_with_their_keys() {
        let pod = deployment(POD);
        assert_eq!(
            found(&RULE, &(pod.clone() + &config("one", "a", "k") + &config("two", "a", "k"))),
            [""; 0]
        );
        assert_eq!(
            found(&RULE, &(pod.clone() + &config("one", "b", "k") + &config("two", "a", "k"))),
            ["Deployment a/d: ConfigMap one is not in a"]
        );
        assert_eq!(
            found(&RULE, &(pod + &config("one", "a", "other") + &config("two", "a", "other"))),
            ["Deployment a/d: ConfigMap two has no key k", "Deployment a/d: ConfigMap one has no key k"]
        );
    }

    #[test]
    fn what_is_optional_may_be_missing() {
        let pod = "containers:\n- {name: c, envFrom: [{configMapRef: {name: one, optional: true}}]}";
        assert_eq!(found(&RULE, &deployment(pod)), [""; 0]);
        assert_eq!(found(&RULE, &deployment(&pod.replace("true", "false"))).len(), 1);
    }
}

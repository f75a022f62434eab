//! Nothing lies around that nobody uses.

use super::Rule;
use crate::finding::Report;
use crate::look::Look as _;
use crate::mounts::{config_references, secret_references};
use crate::object::Object;
use crate::set::{Set, external_name};
use crate::workload::Workload;

pub(super) const RULE: Rule = Rule {
    id: "orphan",
    explains: "each ConfigMap, Secret, claim, service account and role of the set is used",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for object in &set.objects {
        let pods = set.workloads_in(object.namespace());
        let used = match object.kind() {
            "ConfigMap" => {
                pods.iter().any(|pod| names(&config_references(pod)).any(|name| name == object.name()))
            }
            "Secret" => is_secret_used(set, &pods, object.namespace(), object.name()),
            "Certificate" => {
                let name = object.value.text("spec.secretName");
                is_secret_used(set, &pods, object.namespace(), name)
                    || is_authority(set, object.namespace(), name)
            }
            "ExternalSecret" => {
                let (namespace, name) = (object.namespace(), external_name(object));
                let unused = set.secrets.find(namespace, name).is_some_and(|entry| entry.unused);
                unused || is_secret_used(set, &pods, namespace, name)
            }
            "PersistentVolumeClaim" => {
                pods.iter().any(|pod| pod.claims().iter().any(|(name, _)| *name == object.name()))
            }
            "ServiceAccount" => pods.iter().any(|pod| pod.service_account() == object.name()),
            "Role" | "ClusterRole" => is_bound(set, object),
            _ => true,
        };
        if !used {
            report.at(object, "nobody uses it", "delete it, or refer to it");
        }
    }
}

fn names<'a>(references: &'a [crate::mounts::Reference<'a>]) -> impl Iterator<Item = &'a str> {
    references.iter().map(|reference| reference.name)
}

fn is_secret_used(set: &Set, pods: &[Workload<'_>], namespace: &str, name: &str) -> bool {
    let pulled = |value: &serde_json::Value| {
        value.items("imagePullSecrets").iter().any(|secret| secret.text("name") == name)
    };
    pods.iter().any(|pod| names(&secret_references(pod)).any(|used| used == name) || pulled(pod.spec()))
        || set
            .of_kind("ServiceAccount")
            .any(|account| account.namespace() == namespace && pulled(&account.value))
        || set.of_kind("TriggerAuthentication").any(|trigger| {
            let mut targets = trigger.value.items("spec.secretTargetRef").iter();
            trigger.namespace() == namespace && targets.any(|target| target.text("name") == name)
        })
}

/// An issuer signs with it.
fn is_authority(set: &Set, namespace: &str, secret: &str) -> bool {
    let issuers = set.of_kind("Issuer").filter(|issuer| issuer.namespace() == namespace);
    issuers
        .chain(set.of_kind("ClusterIssuer"))
        .any(|issuer| issuer.value.text("spec.ca.secretName") == secret)
}

fn is_bound(set: &Set, role: &Object) -> bool {
    super::rbac::bindings(set).any(|binding| {
        binding.value.text("roleRef.kind") == role.kind() && binding.value.text("roleRef.name") == role.name()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn what_a_pod_of_the_namespace_uses_is_no_orphan() {
        let pod = "
serviceAccountName: s
containers:
- {name: c, envFrom: [{configMapRef: {name: s}}, {secretRef: {name: s}}]}
volumes:
- {name: v, persistentVolumeClaim: {claimName: s}}";
        for kind in ["ConfigMap", "Secret", "PersistentVolumeClaim", "ServiceAccount"] {
            let object = |namespace: &str| {
                format!(
                    "{}\n---\nkind: {kind}\nmetadata: {{name: s, namespace: {namespace}}}",
                    deployment(pod)
                )
            };
            assert_eq!(found(&RULE, &object("a")), [""; 0]);
            assert_eq!(found(&RULE, &object("b")), [format!("{kind} b/s: nobody uses it")]);
        }
    }

    #[test]
    fn roles_are_bound_and_certificates_used() {
        let role = "kind: ClusterRole\nmetadata: {name: r}";
        assert_eq!(found(&RULE, role), ["ClusterRole r: nobody uses it"]);
        let certificate = "kind: Certificate\nmetadata: {name: c, namespace: a}\nspec: {secretName: ca}";
        assert_eq!(found(&RULE, certificate), ["Certificate a/c: nobody uses it"]);
        let issuer = "\n---\nkind: Issuer\nmetadata: {name: i, namespace: a}\nspec: {ca: {secretName: ca}}";
        assert_eq!(found(&RULE, &(certificate.to_owned() + issuer)), [""; 0]);
    }
}

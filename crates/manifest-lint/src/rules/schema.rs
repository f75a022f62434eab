//! Objects are what their schemas say, in the oldest and the newest Kubernetes.

use super::Rule;
use crate::finding::Report;
use crate::object::Object;
use crate::schema::{Release, check_custom, check_kind};
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "schema",
    explains: "every field is known, of its type and spelt right in Kubernetes 1.28 and the newest; no removed API version",
    check,
};

/// API groups whose old versions were removed, with what took their place.
const REMOVED: &[(&str, &str)] = &[
    ("autoscaling/v2beta1", "autoscaling/v2"),
    ("autoscaling/v2beta2", "autoscaling/v2"),
    ("batch/v1beta1", "batch/v1"),
    ("extensions/v1beta1", "apps/v1 or networking.k8s.io/v1"),
    ("apps/v1beta1", "apps/v1"),
    ("apps/v1beta2", "apps/v1"),
    ("networking.k8s.io/v1beta1", "networking.k8s.io/v1"),
    ("policy/v1beta1", "policy/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "rbac.authorization.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "storage.k8s.io/v1"),
    ("external-secrets.io/v1beta1", "external-secrets.io/v1"),
];

fn check(set: &Set, report: &mut Report) {
    for object in &set.objects {
        check_object(object, report);
    }
}

fn check_object(object: &Object, report: &mut Report) {
    let (api_version, kind, value) = (object.api_version(), object.kind(), &object.value);
    if let Some((_, now)) = REMOVED.iter().find(|(old, _)| *old == api_version) {
        report.at(object, format!("{api_version} was removed"), format!("use {now}"));
        return;
    }
    if let Some(differences) = check_custom(api_version, kind, value) {
        for what in differences {
            report.at(object, what, format!("compare with the definition of {kind}"));
        }
        return;
    }
    let oldest = check_kind(Release::Oldest, api_version, kind, value);
    let newest = check_kind(Release::Newest, api_version, kind, value);
    let (Some(oldest), Some(newest)) = (oldest, newest) else {
        report.at(
            object,
            format!("there is no schema for {api_version} {kind}"),
            "correct apiVersion and kind, or add its type to schema/",
        );
        return;
    };
    let explain = format!("see `kubectl explain {}`", kind.to_lowercase());
    for what in &oldest {
        report.at(object, what, &explain);
    }
    for what in newest.iter().filter(|what| !oldest.contains(what)) {
        report.at(object, format!("in the newest Kubernetes: {what}"), &explain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn what_fits_is_no_finding() {
        let pod = "containers:\n- {name: c, image: i, resources: {limits: {memory: 1Gi}}}";
        assert_eq!(found(&RULE, &deployment(pod)), [""; 0]);
    }

    #[test]
    fn unknown_misspelt_and_mistyped_fields_are_found() {
        let path = "Deployment a/d: spec.template.spec";
        let cases = [
            (
                "containers:\n- {name: c, imagePullPolcy: Always}",
                "containers[0].imagePullPolcy: there is no such field",
            ),
            (
                "containers:\n- {name: c, ports: [{containerPort: http}]}",
                "containers[0].ports[0].containerPort: ",
            ),
            (
                "containers:\n- {name: c}\nvolumes:\n- {name: v, emptydir: {}}",
                "volumes[0].emptydir: there is no such field",
            ),
            ("containers:\n- {image: i}", "containers[0].name: this field is needed"),
        ];
        for (pod, what) in cases {
            let found = found(&RULE, &deployment(pod));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{path}.{what}")), "{found:?}");
        }
    }

    #[test]
    fn fields_newer_than_the_oldest_release_are_found() {
        let pod = "resources: {limits: {memory: 1Gi}}\ncontainers:\n- {name: c}";
        assert_eq!(
            found(&RULE, &deployment(pod)),
            ["Deployment a/d: spec.template.spec.resources: there is no such field"]
        );
    }

    #[test]
    fn wrong_base64_is_found() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\ndata: {k: <base64>}";
        assert!(found(&RULE, secret)[0].starts_with("Secret a/s: data.k: "), "{:?}", found(&RULE, secret));
        assert_eq!(found(&RULE, &secret.replace("<base64>", "eA==")), [""; 0]);
    }

    #[test]
    fn removed_versions_and_unknown_kinds_are_found() {
        let old = "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: x, namespace: a}";
        assert_eq!(found(&RULE, old), ["PodDisruptionBudget a/x: policy/v1beta1 was removed"]);
        let unknown = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: x, namespace: a}";
        assert_eq!(found(&RULE, unknown), ["Thing a/x: there is no schema for example.org/v1 Thing"]);
    }

    const SCALED: &str = "
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: s, namespace: a}
spec:
  scaleTargetRef: {name: d}
  fallback: {failureThreshold: 3, replicas: 1}
  triggers:
  - {type: prometheus, metricType: Value, metadata: {threshold: '1'}}
";

    #[test]
    fn custom_resources_have_schemas_too() {
        assert_eq!(found(&RULE, SCALED), [""; 0]);
        let misspelt = SCALED.replace("failureThreshold", "failureTreshold");
        assert!(found(&RULE, &misspelt)[0].contains("missing field `failureThreshold`"));
        let unknown = SCALED.replace("metricType", "metrictype");
        assert_eq!(
            found(&RULE, &unknown),
            ["ScaledObject a/s: spec.triggers[0].metrictype: there is no such field"]
        );
        let number = SCALED.replace("'1'", "1");
        assert!(
            found(&RULE, &number)[0].starts_with("ScaledObject a/s: spec.triggers[0].metadata.threshold: ")
        );
    }

    #[test]
    fn each_custom_resource_that_we_use_is_known() {
        let fitting = [
            "apiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {name: x}\nspec: {secretTargetRef: [{parameter: p, name: s, key: k}]}",
            "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: x}\nspec: {secretName: s, dnsNames: [a.example.org], issuerRef: {name: i, kind: Issuer}}",
            "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: x}\nspec: {selfSigned: {}}",
            "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: x}\nspec: {secretStoreRef: {name: s, kind: SecretStore}, data: [{secretKey: k, remoteRef: {key: a, property: b}}]}",
            "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: x}\nspec: {provider: {aws: {service: SecretsManager}}}",
            "apiVersion: leaderworkerset.x-k8s.io/v1\nkind: LeaderWorkerSet\nmetadata: {name: x}\nspec: {leaderWorkerTemplate: {size: 2, workerTemplate: {spec: {containers: [{name: c}]}}}}",
        ];
        for document in fitting {
            assert_eq!(found(&RULE, document), [""; 0]);
            let spec = document.replace("spec: {", "spec: {noSuchField: 1, ");
            assert_ne!(found(&RULE, &spec), [""; 0], "{spec}");
        }
    }
}

//! The custom resources that the platform uses. Written down here from the CRDs that the projects publish, as far as we use them, since
//! the crates that generate them (kcr_*) bring another version of kube and tens of thousands of lines. A field that
//! is not here is a finding: add it when it is needed.

mod cert_manager;
mod external_secrets;
mod keda;
mod leader_worker_set;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::round_trip;

/// What all custom resources have around their `spec`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource<S> {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: S,
}

/// A reference by name, with a kind where several are possible.
#[derive(Debug, Serialize, Deserialize)]
struct NamedRef {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

/// What a Secret that is made gets beside its name.
#[derive(Debug, Serialize, Deserialize)]
struct TemplateMetadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

/// What `value` says other than the schema of its kind; nothing where we know no such kind.
pub(crate) fn check(api_version: &str, kind: &str, value: &Value) -> Option<Vec<String>> {
    Some(match (api_version, kind) {
        ("keda.sh/v1alpha1", "ScaledObject") => round_trip::<Resource<keda::ScaledObject>>(value),
        ("keda.sh/v1alpha1", "TriggerAuthentication") => {
            round_trip::<Resource<keda::TriggerAuthentication>>(value)
        }
        ("cert-manager.io/v1", "Certificate") => round_trip::<Resource<cert_manager::Certificate>>(value),
        ("cert-manager.io/v1", "Issuer" | "ClusterIssuer") => {
            round_trip::<Resource<cert_manager::Issuer>>(value)
        }
        ("external-secrets.io/v1", "ExternalSecret") => {
            round_trip::<Resource<external_secrets::ExternalSecret>>(value)
        }
        ("external-secrets.io/v1", "SecretStore" | "ClusterSecretStore") => {
            round_trip::<Resource<external_secrets::SecretStore>>(value)
        }
        ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet") => {
            round_trip::<Resource<leader_worker_set::LeaderWorkerSet>>(value)
        }
        _ => return None,
    })
}

//! `cert-manager.io/v1`: deploy/crds of cert-manager/cert-manager 1.17.

use serde::{Deserialize, Serialize};

use super::{NamedRef, TemplateMetadata};

/// Which certificate, in which Secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    secret_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_template: Option<TemplateMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    common_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_names: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uris: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_before_percentage: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usages: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "isCA")]
    is_ca: Option<bool>,
    issuer_ref: NamedRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key: Option<PrivateKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision_history_limit: Option<i32>,
}

/// How the key is made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrivateKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_policy: Option<String>,
}

/// Who signs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Issuer {
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signed: Option<SelfSigned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<Authority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acme: Option<Acme>,
}

/// A certificate that vouches for itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SelfSigned {
    #[serde(skip_serializing_if = "Option::is_none")]
    crl_distribution_points: Option<Vec<String>>,
}

/// Our own authority.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authority {
    secret_name: String,
}

/// A public authority such as Let's Encrypt.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acme {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preferred_chain: Option<String>,
    private_key_secret_ref: KeyRef,
    solvers: Vec<Solver>,
}

/// A key of a Secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyRef {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// How we prove that a name is ours.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Solver {
    #[serde(skip_serializing_if = "Option::is_none")]
    selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http01: Option<Http01>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns01: Option<Dns01>,
}

/// For which names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_names: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_zones: Option<Vec<String>>,
}

/// By answering at the name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http01 {
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress: Option<Ingress>,
}

/// The ingress that answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    #[serde(skip_serializing_if = "Option::is_none")]
    ingress_class_name: Option<String>,
}

/// By an entry in its zone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dns01 {
    #[serde(skip_serializing_if = "Option::is_none")]
    route53: Option<Route53>,
}

/// The zone is one of AWS.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route53 {
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "hostedZoneID")]
    hosted_zone_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
}

//! `leaderworkerset.x-k8s.io/v1`: config/crd/bases of kubernetes-sigs/lws 0.6.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

/// Groups of pods that live and die together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaderWorkerSet {
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<i32>,
    leader_worker_template: Group,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout_strategy: Option<Rollout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    startup_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_config: Option<Network>,
}

/// One group.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_template: Option<PodTemplateSpec>,
    worker_template: PodTemplateSpec,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restart_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_group_policy: Option<SubGroup>,
}

/// Parts of a group that are placed together.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_group_size: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_group_policy_type: Option<String>,
}

/// How groups are replaced.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rollout {
    #[serde(rename = "type")]
    type_: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rolling_update_configuration: Option<RollingUpdate>,
}

/// How many at once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RollingUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_unavailable: Option<IntOrString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_surge: Option<IntOrString>,
}

/// Names of pods.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    #[serde(skip_serializing_if = "Option::is_none")]
    subdomain_policy: Option<String>,
}

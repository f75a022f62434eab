//! The kinds of Kubernetes itself, in the oldest and the newest release that the manifests are for.

use serde_json::Value;

use super::round_trip;

/// A release of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    Oldest,
    Newest,
}

/// `None`: this release has no such kind.
macro_rules! kinds {
    ($types:ident, $api_version:expr, $kind:expr, $value:expr, { $($version:literal $name:literal $($path:ident)::+;)+ }) => {
        match ($api_version, $kind) {
            $(($version, $name) => Some(round_trip::<$types::api::$($path)::+>($value)),)+
            _ => None,
        }
    };
}

macro_rules! in_release {
    ($types:ident, $api_version:expr, $kind:expr, $value:expr) => {
        kinds!($types, $api_version, $kind, $value, {
            "v1" "ConfigMap" core::v1::ConfigMap;
            "v1" "LimitRange" core::v1::LimitRange;
            "v1" "Namespace" core::v1::Namespace;
            "v1" "PersistentVolume" core::v1::PersistentVolume;
            "v1" "PersistentVolumeClaim" core::v1::PersistentVolumeClaim;
            "v1" "Pod" core::v1::Pod;
            "v1" "ResourceQuota" core::v1::ResourceQuota;
            "v1" "Secret" core::v1::Secret;
            "v1" "Service" core::v1::Service;
            "v1" "ServiceAccount" core::v1::ServiceAccount;
            "apps/v1" "DaemonSet" apps::v1::DaemonSet;
            "apps/v1" "Deployment" apps::v1::Deployment;
            "apps/v1" "StatefulSet" apps::v1::StatefulSet;
            "autoscaling/v2" "HorizontalPodAutoscaler" autoscaling::v2::HorizontalPodAutoscaler;
            "batch/v1" "CronJob" batch::v1::CronJob;
            "batch/v1" "Job" batch::v1::Job;
            "networking.k8s.io/v1" "Ingress" networking::v1::Ingress;
            "networking.k8s.io/v1" "IngressClass" networking::v1::IngressClass;
            "networking.k8s.io/v1" "NetworkPolicy" networking::v1::NetworkPolicy;
            "policy/v1" "PodDisruptionBudget" policy::v1::PodDisruptionBudget;
            "rbac.authorization.k8s.io/v1" "ClusterRole" rbac::v1::ClusterRole;
            "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" rbac::v1::ClusterRoleBinding;
            "rbac.authorization.k8s.io/v1" "Role" rbac::v1::Role;
            "rbac.authorization.k8s.io/v1" "RoleBinding" rbac::v1::RoleBinding;
            "scheduling.k8s.io/v1" "PriorityClass" scheduling::v1::PriorityClass;
            "storage.k8s.io/v1" "StorageClass" storage::v1::StorageClass;
        })
    };
}

/// What `value` says other than the schema of its kind; nothing where the release has no such kind.
pub(crate) fn check(release: Release, api_version: &str, kind: &str, value: &Value) -> Option<Vec<String>> {
    match release {
        Release::Oldest => in_release!(k8s_openapi_1_28, api_version, kind, value),
        Release::Newest => in_release!(k8s_openapi, api_version, kind, value),
    }
}

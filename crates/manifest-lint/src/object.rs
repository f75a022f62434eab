//! One object of Kubernetes as it was written.

use std::fmt;

use serde_json::Value;

use crate::look::Look as _;

/// One document of a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// Where it was read from.
    pub(crate) file: String,
    pub(crate) value: Value,
}

/// Kinds that stand in no namespace.
const CLUSTER_WIDE: &[&str] = &[
    "Namespace",
    "StorageClass",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "PriorityClass",
    "ClusterIssuer",
    "ClusterSecretStore",
    "CustomResourceDefinition",
    "ClusterTriggerAuthentication",
];

// === impl Object ===

impl Object {
    pub(crate) fn kind(&self) -> &str {
        self.value.text("kind")
    }

    pub(crate) fn api_version(&self) -> &str {
        self.value.text("apiVersion")
    }

    pub(crate) fn name(&self) -> &str {
        self.value.text("metadata.name")
    }

    /// Empty for what stands in none.
    pub(crate) fn namespace(&self) -> &str {
        if CLUSTER_WIDE.contains(&self.kind()) {
            return "";
        }
        match self.value.text("metadata.namespace") {
            "" => "default",
            namespace => namespace,
        }
    }

    pub(crate) fn is(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.kind() == kind && self.namespace() == namespace && self.name() == name
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            "" => write!(f, "{} {}", self.kind(), self.name()),
            namespace => write!(f, "{} {namespace}/{}", self.kind(), self.name()),
        }
    }
}

//! The tables that say what is meant: which secrets exist, who talks to whom, which series are exported.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use crate::input::{Error, read, yaml};

/// Secrets that exist in the cluster and are not in git.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// In no order.
    pub secrets: Vec<SecretEntry>,
}

/// One secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretEntry {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub namespace: String,
    /// Its keys.
    pub keys: Vec<String>,
    /// It may be missing, so references to it must say so.
    #[serde(default)]
    pub optional: bool,
    /// Nobody in the set reads it.
    #[serde(default)]
    pub unused: bool,
}

/// Who talks to whom; what no line says is to be denied.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flows {
    /// Everybody, by name.
    pub parties: BTreeMap<String, Party>,
    /// Every flow that is needed.
    pub flows: Vec<Flow>,
}

/// Pods, or addresses outside of the cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Where its pods are; nothing for what is no pod.
    pub namespace: Option<String>,
    /// Labels that its pods have, among others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Addresses that stand for all of its kind. With a namespace: pods that others make, and that are in no manifest.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// One line of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Who starts it.
    pub from: String,
    /// Who is talked to.
    pub to: String,
    /// Ports of whoever is talked to.
    pub ports: Vec<u16>,
    /// TCP unless something else is said.
    #[serde(default = "tcp")]
    pub protocols: Vec<String>,
    /// It is needed only where this part is in the set.
    pub with: Option<String>,
    /// Both pods must have the same value of this label.
    pub same: Option<String>,
}

fn tcp() -> Vec<String> {
    vec!["TCP".to_owned()]
}

/// Every series that a head or worker exports, without the endings of histograms.
#[must_use]
pub fn exported_metrics() -> Vec<&'static str> {
    include_str!("tables/metrics.txt").lines().filter(|line| !line.starts_with('#')).collect()
}

// === impl Secrets ===

impl Secrets {
    /// Read the table.
    ///
    /// # Errors
    /// The file is missing or has another form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        table(path)
    }

    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<&SecretEntry> {
        self.secrets.iter().find(|entry| entry.name == name && entry.namespace == namespace)
    }
}

// === impl Flows ===

impl Flows {
    /// Read the table.
    ///
    /// # Errors
    /// The file is missing or has another form.
    pub fn read(path: &Path) -> Result<Self, Error> {
        table(path)
    }
}

// === impl Party ===

impl Party {
    /// These pods are meant.
    pub(crate) fn is(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespace.as_deref() == Some(namespace)
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

// === impl Flow ===

impl Flow {
    /// Each port with each protocol.
    pub(crate) fn ports(&self) -> impl Iterator<Item = (u16, &str)> {
        self.ports.iter().flat_map(|port| self.protocols.iter().map(|protocol| (*port, protocol.as_str())))
    }
}

fn table<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = read(path)?;
    yaml(&text).map_err(|reason| Error::Yaml { file: path.display().to_string(), number: 1, reason })
}

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
    /// The label that names pods of the set.
    #[serde(default = "name_label")]
    pub label: String,
    /// What is outside of the set.
    pub endpoints: BTreeMap<String, Outside>,
    /// Every flow that is needed.
    pub flows: Vec<Flow>,
}

/// Somebody outside of the set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// For pods of others.
    pub namespace: Option<String>,
    /// For pods of others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// An address that stands for all of them.
    pub ip: IpAddr,
}

/// One line of the table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Names of pods or endpoints, or `*` for every pod of the set.
    pub from: Names,
    /// As `from`.
    pub to: Names,
    /// Ports of whoever is talked to.
    pub ports: Vec<FlowPort>,
    /// Both pods must have the same value of this label.
    pub same: Option<String>,
}

/// One name or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// `8000` or `53/UDP`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum FlowPort {
    /// Of TCP.
    Number(u16),
    /// With its protocol.
    Text(String),
}

fn name_label() -> String {
    "app.kubernetes.io/name".to_owned()
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

// === impl Names ===

impl Names {
    /// `name` is one of them.
    #[must_use]
    pub fn hold(&self, name: &str) -> bool {
        self.iter().any(|one| one == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names.as_slice(),
        }
        .iter()
        .map(String::as_str)
    }
}

// === impl FlowPort ===

impl FlowPort {
    /// Number and protocol; nothing where it is neither.
    #[must_use]
    pub fn parsed(&self) -> Option<(u16, &str)> {
        match self {
            Self::Number(number) => Some((*number, "TCP")),
            Self::Text(text) => {
                let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
                Some((number.parse().ok()?, protocol))
            }
        }
    }
}

fn table<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = read(path)?;
    yaml(&text).map_err(|reason| Error::Yaml { file: path.display().to_string(), number: 1, reason })
}

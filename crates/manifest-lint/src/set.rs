//! Everything that is looked at together: objects, scripts, and the tables that say what is meant.

use crate::input::{Error, Input};
use crate::look::Look as _;
use crate::object::Object;
use crate::tables::{Flows, Secrets};
use crate::workload::{Workload, workloads};

/// A shell script that deploys.
#[derive(Debug, Clone)]
pub struct Script {
    /// What findings call it.
    pub file: String,
    /// The whole of it.
    pub text: String,
}

/// One rendered overlay, or one folder of manifests.
#[derive(Debug)]
pub struct Set {
    pub(crate) objects: Vec<Object>,
    pub(crate) scripts: Vec<Script>,
    pub(crate) secrets: Secrets,
    pub(crate) flows: Option<Flows>,
}

// === impl Set ===

impl Set {
    /// `secrets`: what exists beside the manifests. Without `flows`, flows are not evaluated.
    #[must_use]
    pub fn new(input: Input, secrets: Secrets, flows: Option<Flows>) -> Self {
        Self { objects: input.objects, scripts: input.scripts, secrets, flows }
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> + 'a {
        self.objects.iter().filter(move |object| object.kind() == kind)
    }

    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.is(kind, namespace, name))
    }

    /// All pods that the set describes, by what makes them.
    pub(crate) fn workloads(&self) -> Vec<Workload<'_>> {
        self.objects.iter().flat_map(workloads).collect()
    }

    pub(crate) fn workloads_in(&self, namespace: &str) -> Vec<Workload<'_>> {
        self.workloads().into_iter().filter(|workload| workload.namespace() == namespace).collect()
    }

    /// What scales `target`, with the most replicas that it may ask for.
    pub(crate) fn scaler_of(&self, target: &Object) -> Option<(&Object, i64)> {
        self.objects.iter().find_map(|object| {
            let (kind, most) = match object.kind() {
                "HorizontalPodAutoscaler" => {
                    (object.value.text("spec.scaleTargetRef.kind"), "spec.maxReplicas")
                }
                "ScaledObject" => match object.value.text("spec.scaleTargetRef.kind") {
                    "" => ("Deployment", "spec.maxReplicaCount"),
                    kind => (kind, "spec.maxReplicaCount"),
                },
                _ => return None,
            };
            let name = object.value.text("spec.scaleTargetRef.name");
            // KEDA's default is 100.
            target
                .is(kind, object.namespace(), name)
                .then(|| (object, object.value.number(most).unwrap_or(100)))
        })
    }
}

// === where Secrets come from ===

impl Set {
    /// The keys of a Secret, from wherever it comes: the set itself, the table, a certificate, an ExternalSecret.
    pub(crate) fn secret_keys(&self, namespace: &str, name: &str) -> Option<Vec<&str>> {
        if let Some(object) = self.find("Secret", namespace, name) {
            let keys = object.value.entries("data").chain(object.value.entries("stringData"));
            return Some(keys.map(|(key, _)| key).collect());
        }
        if let Some(entry) = self.secrets.find(namespace, name) {
            return Some(entry.keys.iter().map(String::as_str).collect());
        }
        self.objects.iter().filter(|object| object.namespace() == namespace).find_map(|object| {
            match object.kind() {
                "Certificate" if object.value.text("spec.secretName") == name => {
                    Some(vec!["tls.crt", "tls.key", "ca.crt"])
                }
                "ExternalSecret" if external_name(object) == name => Some(external_keys(object)),
                _ => None,
            }
        })
    }
}

/// The Secret that an ExternalSecret makes.
pub(crate) fn external_name(object: &Object) -> &str {
    match object.value.text("spec.target.name") {
        "" => object.name(),
        name => name,
    }
}

fn external_keys(object: &Object) -> Vec<&str> {
    // A template takes the entries as its input, and says itself which keys there are.
    let template: Vec<_> = object.value.entries("spec.target.template.data").map(|(key, _)| key).collect();
    let data = object.value.items("spec.data").iter().map(|item| item.text("secretKey"));
    if template.is_empty() { data.collect() } else { template }
}

/// Namespace, name and keys of each Secret that ExternalSecrets in this stream make.
///
/// # Errors
/// A document is no YAML.
pub fn external_secrets(stream: &str) -> Result<Vec<(String, String, Vec<String>)>, Error> {
    let input = Input::stream("", stream)?;
    let external = input.objects.iter().filter(|object| object.kind() == "ExternalSecret");
    let made = external.map(|object| {
        let keys = external_keys(object).into_iter().map(str::to_owned).collect();
        (object.namespace().to_owned(), external_name(object).to_owned(), keys)
    });
    Ok(made.collect())
}

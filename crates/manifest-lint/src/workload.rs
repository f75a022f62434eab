//! Pods as they are described: a template inside whatever makes pods of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::look::Look as _;
use crate::network::selects;
use crate::object::Object;

/// A pod template and its owner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload<'a> {
    pub(crate) object: &'a Object,
    /// `metadata` and `spec` of the pods.
    pub(crate) template: &'a Value,
}

/// One container of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Container<'a> {
    pub(crate) value: &'a Value,
    /// It ends before the others start.
    pub(crate) init: bool,
}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) number: u16,
    pub(crate) protocol: String,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// All pod templates in an object, whatever its kind: also those of resources that we have no types for.
pub(crate) fn workloads(object: &Object) -> Vec<Workload<'_>> {
    let mut found = Vec::new();
    if object.kind() == "Pod" {
        found.push(Workload { object, template: &object.value });
    }
    templates(&object.value, &mut |template| found.push(Workload { object, template }));
    found
}

fn templates<'a>(value: &'a Value, each: &mut dyn FnMut(&'a Value)) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if key.ends_with("emplate") && !inner.items("spec.containers").is_empty() {
                    each(inner);
                } else {
                    templates(inner, each);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| templates(item, each)),
        _ => {}
    }
}

// === impl Workload ===

impl<'a> Workload<'a> {
    pub(crate) fn namespace(&self) -> &'a str {
        self.object.namespace()
    }

    pub(crate) fn spec(&self) -> &'a Value {
        self.template.at("spec")
    }

    pub(crate) fn labels(&self) -> Labels {
        labels(self.template)
    }

    pub(crate) fn containers(&self) -> Vec<Container<'a>> {
        let spec = self.spec();
        let init = spec.items("initContainers").iter();
        // With this policy it is a sidecar, which runs as long as the others.
        let init = init.map(|value| Container { value, init: value.text("restartPolicy") != "Always" });
        init.chain(spec.items("containers").iter().map(|value| Container { value, init: false })).collect()
    }

    pub(crate) fn ports(&self) -> Vec<Port> {
        let containers = self.containers();
        let ports = containers.iter().flat_map(|container| container.value.items("ports"));
        let ports = ports.filter_map(|port| {
            Some(Port {
                name: port.text("name").to_owned(),
                number: u16::try_from(port.number("containerPort")?).ok()?,
                protocol: match port.text("protocol") {
                    "" => "TCP".to_owned(),
                    protocol => protocol.to_owned(),
                },
            })
        });
        ports.collect()
    }

    /// Its pods run until they are told to stop.
    pub(crate) fn is_long_running(&self) -> bool {
        !matches!(self.object.kind(), "Job" | "CronJob" | "Pod" | "ScaledJob")
    }

    pub(crate) fn is_selected_by(&self, selector: &Value) -> bool {
        selects(selector, &self.labels())
    }

    pub(crate) fn service_account(&self) -> &'a str {
        match self.spec().text("serviceAccountName") {
            "" => "default",
            name => name,
        }
    }

    /// Claims of volumes, and those made from templates, with whether a container writes to them.
    pub(crate) fn claims(&self) -> Vec<(&'a str, bool)> {
        let volumes = self.spec().items("volumes").iter();
        let mut claims: Vec<_> = volumes
            .filter_map(|volume| {
                let claim = volume.at("persistentVolumeClaim");
                let name = claim.get("claimName")?.as_str()?;
                Some((name, !claim.is_true("readOnly") && self.writes(volume.text("name"))))
            })
            .collect();
        let templates = self.object.value.items("spec.volumeClaimTemplates").iter();
        claims.extend(templates.map(|claim| {
            let name = claim.text("metadata.name");
            (name, self.writes(name))
        }));
        claims
    }

    fn writes(&self, volume: &str) -> bool {
        let containers = self.containers();
        let mut mounts = containers.iter().flat_map(|container| container.value.items("volumeMounts"));
        mounts.any(|mount| mount.text("name") == volume && !mount.is_true("readOnly"))
    }
}

// === impl Container ===

impl<'a> Container<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.value.text("name")
    }

    pub(crate) fn image(&self) -> &'a str {
        self.value.text("image")
    }

    /// `command` and `args` together.
    pub(crate) fn words(&self) -> Vec<&'a str> {
        let words = self.value.items("command").iter().chain(self.value.items("args"));
        words.filter_map(Value::as_str).collect()
    }

    /// What stands behind this option, as `--option VALUE` or `--option=VALUE`.
    pub(crate) fn option(&self, option: &str) -> Option<&'a str> {
        let words = self.words();
        words.iter().enumerate().find_map(|(idx, word)| {
            let rest = word.strip_prefix(option)?;
            if rest.is_empty() { words.get(idx + 1).copied() } else { rest.strip_prefix('=') }
        })
    }

    /// The value of this variable, if it is written down.
    pub(crate) fn variable(&self, name: &str) -> Option<&'a str> {
        let mut variables = self.value.items("env").iter();
        variables.find(|variable| variable.text("name") == name)?.get("value")?.as_str()
    }
}

/// The labels of an object or template.
pub(crate) fn labels(value: &Value) -> Labels {
    let labels = value.entries("metadata.labels");
    labels.filter_map(|(key, value)| Some((key.to_owned(), value.as_str()?.to_owned()))).collect()
}

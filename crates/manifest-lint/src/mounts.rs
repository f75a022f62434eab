//! Which file a container sees at a path: the way from an argument such as `--server /etc/vlinders/server.yaml` to its text.

use serde_json::Value;

use crate::look::Look as _;
use crate::object::Object;
use crate::set::Set;
use crate::workload::{Container, Workload};

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File<'a> {
    /// An entry of a ConfigMap.
    Config(&'a str),
    /// A key of a Secret.
    Secret { name: &'a str, key: &'a str },
    /// A folder, or a file on a volume that is filled while the pod runs.
    Volume,
    /// A ConfigMap or Secret is mounted there, and has no such entry.
    Absent,
    /// Nothing is mounted there: it is part of the image.
    Image,
}

/// What stands at `path` in this container.
pub(crate) fn file_at<'a>(
    set: &'a Set,
    pod: &Workload<'a>,
    container: &Container<'a>,
    path: &str,
) -> File<'a> {
    let mounts = container.value.items("volumeMounts").iter();
    let under = mounts.filter_map(|mount| {
        let rest = path.strip_prefix(mount.text("mountPath").trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (mount, rest.trim_start_matches('/').to_owned()))
    });
    let Some((mount, rest)) = under.min_by_key(|(_, rest)| rest.len()) else {
        return File::Image;
    };
    let inside = match (mount.text("subPath"), rest.as_str()) {
        ("", rest) => rest.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, rest) => format!("{folder}/{rest}"),
    };
    let mut volumes = pod.spec().items("volumes").iter();
    match volumes.find(|volume| volume.text("name") == mount.text("name")) {
        Some(volume) => on_volume(set, pod, volume, &inside),
        None => File::Volume,
    }
}

fn on_volume<'a>(set: &'a Set, pod: &Workload<'a>, volume: &'a Value, path: &str) -> File<'a> {
    let sources: Vec<&Value> = match volume.get("projected") {
        Some(projected) => projected.items("sources").iter().collect(),
        None => vec![volume],
    };
    let readable = |source: &&&Value| source.has("configMap") || source.has("secret");
    if path.is_empty() || !sources.iter().any(|source| readable(&source)) {
        return File::Volume;
    }
    let files = sources.iter().map(|source| in_source(set, pod, source, path));
    let mut found = File::Absent;
    for file in files {
        if file != File::Absent {
            found = file;
        }
    }
    found
}

fn in_source<'a>(set: &'a Set, pod: &Workload<'a>, source: &'a Value, path: &str) -> File<'a> {
    if let Some(config) = source.get("configMap") {
        let Some(object) = config_map(set, pod.namespace(), config.text("name")) else {
            return File::Absent;
        };
        let data = object.value.at("data");
        return match key_of(config, path).and_then(|key| data.get(&key)?.as_str()) {
            Some(text) => File::Config(text),
            None => File::Absent,
        };
    }
    if let Some(secret) = source.get("secret") {
        // A projected source calls it `name`.
        let name = [secret.text("secretName"), secret.text("name")].into_iter().find(|name| !name.is_empty());
        let keys = name.and_then(|name| Some((name, set.secret_keys(pod.namespace(), name)?)));
        let found = keys.and_then(|(name, keys)| {
            let wanted = key_of(secret, path)?;
            Some(File::Secret { name, key: keys.into_iter().find(|key| *key == wanted)? })
        });
        return found.unwrap_or(File::Absent);
    }
    File::Absent
}

/// `items` choose keys and give them paths; without them every key is a file.
fn key_of(source: &Value, path: &str) -> Option<String> {
    let items = source.items("items");
    if items.is_empty() {
        return Some(path.to_owned());
    }
    items.iter().find(|item| item.text("path") == path).map(|item| item.text("key").to_owned())
}

/// The ConfigMap of this name; where it stands in the wrong namespace only, that one, so that what it says is judged as well.
pub(crate) fn config_map<'a>(set: &'a Set, namespace: &str, name: &str) -> Option<&'a Object> {
    set.find("ConfigMap", namespace, name)
        .or_else(|| set.of_kind("ConfigMap").find(|object| object.name() == name))
}

/// Names of all ConfigMaps that a pod uses, with the key if it asks for one, and whether it may be missing.
pub(crate) fn config_references<'a>(pod: &Workload<'a>) -> Vec<Reference<'a>> {
    references(pod, "configMap", "name", "configMapKeyRef", "configMapRef")
}

/// As [`config_references`], for Secrets.
pub(crate) fn secret_references<'a>(pod: &Workload<'a>) -> Vec<Reference<'a>> {
    references(pod, "secret", "secretName", "secretKeyRef", "secretRef")
}

/// A pod needs this object, or one key of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) optional: bool,
}

fn references<'a>(
    pod: &Workload<'a>,
    volume_field: &str,
    volume_name: &str,
    variable: &str,
    all_variables: &str,
) -> Vec<Reference<'a>> {
    let mut found = Vec::new();
    for volume in pod.spec().items("volumes") {
        let projected =
            volume.items("projected.sources").iter().map(|source| (source.at(volume_field), "name"));
        for (source, name) in std::iter::once((volume.at(volume_field), volume_name)).chain(projected) {
            if source.is_null() {
                continue;
            }
            let whole =
                Reference { name: source.text(name), key: None, optional: source.is_true("optional") };
            found.push(whole);
            let items = source.items("items").iter();
            found.extend(items.map(|item| Reference { key: Some(item.text("key")), ..whole }));
        }
    }
    for container in pod.containers() {
        for entry in container.value.items("env") {
            let source = entry.at("valueFrom").entry(variable);
            if !source.is_null() {
                let (name, key) = (source.text("name"), Some(source.text("key")));
                found.push(Reference { name, key, optional: source.is_true("optional") });
            }
        }
        for entry in container.value.items("envFrom") {
            let source = entry.entry(all_variables);
            if !source.is_null() {
                let optional = source.is_true("optional");
                found.push(Reference { name: source.text("name"), key: None, optional });
            }
        }
    }
    found
}

/// Every text that configures a pod: its words and variables, and the entries of its ConfigMaps.
pub(crate) fn texts<'a>(set: &'a Set, pod: &Workload<'a>) -> Vec<&'a str> {
    let mut texts = Vec::new();
    for container in pod.containers() {
        texts.extend(container.words());
        texts.extend(container.value.items("env").iter().map(|variable| variable.text("value")));
    }
    for reference in config_references(pod) {
        if let Some(object) = config_map(set, pod.namespace(), reference.name) {
            texts.extend(object.value.entries("data").filter_map(|(_, text)| text.as_str()));
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::set;

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: a}
spec:
  containers:
  - name: c
    volumeMounts:
    - {name: all, mountPath: /etc/app}
    - {name: chosen, mountPath: /etc/app/chosen}
    - {name: all, mountPath: /one.yaml, subPath: a.yaml}
    - {name: scratch, mountPath: /tmp}
    - {name: both, mountPath: /both}
  volumes:
  - {name: all, configMap: {name: config}}
  - {name: chosen, configMap: {name: config, items: [{key: a.yaml, path: b.yaml}]}}
  - {name: scratch, emptyDir: {}}
  - {name: both, projected: {sources: [{configMap: {name: config}}, {secret: {name: keys}}]}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config, namespace: a}
data: {a.yaml: text}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: a}
stringData: {key: x}
";

    #[test]
    fn a_path_leads_to_what_is_mounted_there() {
        let set = set(POD);
        let pods = set.workloads();
        let at = |path| file_at(&set, &pods[0], &pods[0].containers()[0], path);
        assert_eq!(at("/etc/app/a.yaml"), File::Config("text"));
        assert_eq!(at("/etc/app/b.yaml"), File::Absent);
        assert_eq!(at("/etc/app/chosen/b.yaml"), File::Config("text"));
        assert_eq!(at("/etc/app/chosen/a.yaml"), File::Absent);
        assert_eq!(at("/one.yaml"), File::Config("text"));
        assert_eq!(at("/tmp/x"), File::Volume);
        assert_eq!(at("/etc/app"), File::Volume);
        assert_eq!(at("/etc/apple"), File::Image);
        assert_eq!(at("/both/a.yaml"), File::Config("text"));
        assert_eq!(at("/both/key"), File::Secret { name: "keys", key: "key" });
        assert_eq!(at("/both/other"), File::Absent);
    }
}

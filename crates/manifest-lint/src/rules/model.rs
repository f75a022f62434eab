//! A worker serves a model that its models.yaml has, from a volume that it mounts.

use serde_json::Value;

use super::Rule;
use crate::finding::Report;
use crate::input::yaml;
use crate::look::Look as _;
use crate::mounts::{File, config_map, config_references, file_at};
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "model",
    explains: "the --model of a worker is in the models.yaml that it mounts, and so is the volume of its path",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            let Some(name) = container.option("--model") else {
                continue;
            };
            let models = models(set, &pod, &container);
            let Some(model) = models.iter().find(|model| model.text("name") == name) else {
                let known: Vec<_> = models.iter().map(|model| model.text("name")).collect();
                report.at(
                    pod.object,
                    format!(
                        "{} serves `{name}`, its models.yaml has: {}",
                        container.name(),
                        known.join(", ")
                    ),
                    "render the overlay again with `vlinders deploy render`",
                );
                continue;
            };
            let path = model.text("path");
            if path.starts_with('/') && file_at(set, &pod, &container, path) != File::Volume {
                report.at(
                    pod.object,
                    format!(
                        "{}: `{name}` is loaded from {path}, where no volume is mounted",
                        container.name()
                    ),
                    "mount the claim of the models there",
                );
            }
        }
    }
}

/// The models of the file that this container is told to read, or of any models.yaml that its pod mounts, or of any at all.
pub(super) fn models(set: &Set, pod: &Workload<'_>, container: &Container<'_>) -> Vec<Value> {
    let named = container.option("--models").and_then(|path| match file_at(set, pod, container, path) {
        File::Config(text) => Some(text),
        _ => None,
    });
    let any = || {
        let references = config_references(pod).into_iter();
        let configs = references.filter_map(|reference| config_map(set, pod.namespace(), reference.name));
        configs
            .chain(set.of_kind("ConfigMap"))
            .find_map(|config| config.value.at("data").get("models.yaml")?.as_str())
    };
    let parsed: Option<Value> = named.or_else(any).and_then(|text| yaml(text).ok());
    parsed.map(|models| models.items("models").to_vec()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(model: &str, path: &str) -> String {
        let pod = format!(
            "
containers:
- name: c
  args: [worker, --model, {model}, --models, /etc/x/models.yaml]
  volumeMounts: [{{name: v, mountPath: /etc/x}}, {{name: w, mountPath: /models}}]
volumes:
- {{name: v, configMap: {{name: m}}}}
- {{name: w, persistentVolumeClaim: {{claimName: p}}}}"
        );
        let config = format!("data: {{models.yaml: '{{models: [{{name: one, path: {path}}}]}}'}}");
        deployment(&pod) + "\n---\nkind: ConfigMap\nmetadata: {name: m, namespace: a}\n" + &config
    }

    #[test]
    fn model_and_path_are_there() {
        assert_eq!(found(&RULE, &documents("one", "/models/one")), [""; 0]);
        assert_eq!(found(&RULE, &documents("one", "builtin:x")), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("two", "/models/one")),
            ["Deployment a/d: c serves `two`, its models.yaml has: one"]
        );
        assert_eq!(
            found(&RULE, &documents("one", "/data/one")),
            ["Deployment a/d: c: `one` is loaded from /data/one, where no volume is mounted"]
        );
    }
}

//! Files that programs are told to read are there: in their arguments, and in the configuration that those name.

use serde_json::Value;

use super::Rule;
use crate::finding::Report;
use crate::input::yaml;
use crate::look::{Look as _, strings};
use crate::mounts::{File, file_at};
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "file",
    explains: "each path in arguments, variables and `*_file` settings leads to an entry of what is mounted there",
    check,
};

/// Kubernetes mounts it by itself; the rule `token` looks at who has one.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/";

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            check_container(set, &pod, &container, report);
        }
    }
}

fn check_container(set: &Set, pod: &Workload<'_>, container: &Container<'_>, report: &mut Report) {
    let variables = container.value.items("env").iter().map(|variable| variable.text("value"));
    for path in container.words().into_iter().chain(variables).filter_map(path_in) {
        match file_at(set, pod, container, path) {
            File::Absent => report.at(
                pod.object,
                format!("{}: {path} is not in what is mounted there", container.name()),
                "correct the path, or add the entry",
            ),
            File::Config(text) => check_settings(set, pod, container, path, text, report),
            File::Secret { .. } | File::Volume | File::Image => {}
        }
    }
}

/// Settings such as `database_url_file` name files too.
fn check_settings(
    set: &Set,
    pod: &Workload<'_>,
    container: &Container<'_>,
    file: &str,
    text: &str,
    report: &mut Report,
) {
    let is_yaml = [".yaml", ".yml"].iter().any(|end| file.ends_with(end));
    let Some(settings) = is_yaml.then(|| yaml::<Value>(text).ok()).flatten() else {
        return;
    };
    strings("", &settings, &mut |key, path| {
        let is_path = key.ends_with("_file") && path.starts_with('/') && !path.starts_with(TOKEN);
        if is_path && matches!(file_at(set, pod, container, path), File::Absent | File::Image) {
            report.at(
                pod.object,
                format!("{}: {file} says {key}: {path}, which is not mounted", container.name()),
                "mount the secret, or correct the setting",
            );
        }
    });
}

/// An absolute path, by itself or behind `--option=`.
fn path_in(word: &str) -> Option<&str> {
    let path = if word.starts_with('-') { word.split_once('=')?.1 } else { word };
    let plain = path.starts_with('/') && !path.contains([' ', '\n', '$', ':', '*', ',']);
    plain.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(config: &str, args: &str) -> String {
        let pod = format!(
            "
containers:
- name: c
  args: {args}
  volumeMounts: [{{name: v, mountPath: /etc/app}}, {{name: s, mountPath: /run/secrets/db}}]
volumes:
- {{name: v, configMap: {{name: m}}}}
- {{name: s, secret: {{secretName: db}}}}"
        );
        let config = format!(
            "\n---\nkind: ConfigMap\nmetadata: {{name: m, namespace: a}}\ndata: {{server.yaml: '{config}'}}"
        );
        deployment(&pod)
            + &config
            + "\n---\nkind: Secret\nmetadata: {name: db, namespace: a}\nstringData: {url: x}"
    }

    #[test]
    fn arguments_lead_to_entries() {
        assert_eq!(found(&RULE, &documents("{}", "[--server, /etc/app/server.yaml, /bin/x]")), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("{}", "['--server=/etc/app/serve.yaml']")),
            ["Deployment a/d: c: /etc/app/serve.yaml is not in what is mounted there"]
        );
    }

    #[test]
    fn settings_lead_to_entries() {
        let args = "[--server, /etc/app/server.yaml]";
        assert_eq!(found(&RULE, &documents("{a: {url_file: /run/secrets/db/url}}", args)), [""; 0]);
        let token = "{a: {url_file: /var/run/secrets/kubernetes.io/serviceaccount/token}}";
        assert_eq!(found(&RULE, &documents(token, args)), [""; 0]);
        for path in ["/run/secrets/db/uri", "/run/secrets/other/url"] {
            assert_eq!(
                found(&RULE, &documents(&format!("{{a: {{url_file: {path}}}}}"), args)),
                [format!(
                    "Deployment a/d: c: /etc/app/server.yaml says url_file: {path}, which is not mounted"
                )]
            );
        }
    }
}

//! Pods have the time that their own configuration gives to running requests.

use serde_json::Value;

use super::Rule;
use crate::finding::Report;
use crate::input::yaml;
use crate::look::Look as _;
use crate::mounts::{File, file_at};
use crate::set::Set;
use crate::span;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "grace-period",
    explains: "terminationGracePeriodSeconds is more than shutdown.delay + shutdown.grace of the server.yaml that is mounted",
    check,
};

/// Of Kubernetes, where nothing is said.
const DEFAULT_PERIOD: i64 = 30;

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            let Some(drain) = drain(set, &pod, &container) else {
                continue;
            };
            let period = pod.spec().number("terminationGracePeriodSeconds").unwrap_or(DEFAULT_PERIOD);
            if (period as f64) <= drain {
                report.at(
                    pod.object,
                    format!("{} may drain for {drain} s and is ended after {period} s", container.name()),
                    "set terminationGracePeriodSeconds above shutdown.delay + shutdown.grace",
                );
            }
        }
    }
}

/// Seconds from SIGTERM to the end of the last request.
fn drain(set: &Set, pod: &Workload<'_>, container: &Container<'_>) -> Option<f64> {
    let File::Config(text) = file_at(set, pod, container, container.option("--server")?) else {
        return None;
    };
    let settings: Value = yaml(text).ok()?;
    // The defaults are those of server.yaml.
    let of = |path: &str, default: f64| match settings.text(path) {
        "" => Some(default),
        text => span::seconds(text),
    };
    Some(of("shutdown.delay", 5.0)? + of("shutdown.grace", 30.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    fn documents(period: &str, server: &str) -> String {
        let pod = format!(
            "
{period}
containers:
- name: c
  args: [--server, /etc/x/server.yaml]
  volumeMounts: [{{name: v, mountPath: /etc/x}}]
volumes:
- {{name: v, configMap: {{name: m}}}}"
        );
        deployment(&pod)
            + &format!(
                "\n---\nkind: ConfigMap\nmetadata: {{name: m, namespace: a}}\ndata: {{server.yaml: '{server}'}}"
            )
    }

    #[test]
    fn the_period_covers_delay_and_grace() {
        let server = "shutdown: {delay: 10s, grace: 10m}";
        assert_eq!(found(&RULE, &documents("terminationGracePeriodSeconds: 611", server)), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("terminationGracePeriodSeconds: 610", server)),
            ["Deployment a/d: c may drain for 610 s and is ended after 610 s"]
        );
    }

    #[test]
    fn both_sides_have_defaults() {
        assert_eq!(
            found(&RULE, &documents("", "{}")),
            ["Deployment a/d: c may drain for 35 s and is ended after 30 s"]
        );
    }
}

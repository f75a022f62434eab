//! A change of configuration rolls out: the name of a ConfigMap ends with a hash of what is in it.

use super::Rule;
use crate::finding::Report;
use crate::mounts::config_references;
use crate::set::Set;

pub(super) const RULE: Rule = Rule {
    id: "config-hash",
    explains: "ConfigMaps that pods use have kustomize's hash suffix, so that a change rolls out",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads().into_iter().filter(|pod| pod.is_long_running()) {
        for reference in config_references(&pod).into_iter().filter(|reference| reference.key.is_none()) {
            if !has_hash(reference.name) {
                report.at(
                    pod.object,
                    format!(
                        "ConfigMap {} has no hash suffix: pods keep running with the old one",
                        reference.name
                    ),
                    "make it by configMapGenerator",
                );
            }
        }
    }
}

/// kustomize writes ten characters of an alphabet that spells no words.
fn has_hash(name: &str) -> bool {
    let hash = name.rsplit('-').next().unwrap_or_default();
    hash.len() == 10 && hash.chars().all(|c| "2456789bcdfghkmt".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{deployment, found};

    #[test]
    fn only_generated_names_pass() {
        let pod = |name: &str| {
            deployment(&format!("containers:\n- {{name: c, envFrom: [{{configMapRef: {{name: {name}}}}}]}}"))
        };
        assert_eq!(found(&RULE, &pod("x-7k2b5hf8tm")), [""; 0]);
        assert_eq!(
            found(&RULE, &pod("vlinders-config")),
            [
                "Deployment a/d: ConfigMap vlinders-config has no hash suffix: pods keep running with the old one"
            ]
        );
    }
}

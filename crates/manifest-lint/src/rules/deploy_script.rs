//! Scripts that deploy stop at the first failure, wait for what they started, and can be tried out.

use super::Rule;
use crate::finding::Report;
use crate::set::{Script, Set};

pub(super) const RULE: Rule = Rule {
    id: "deploy-script",
    explains: "scripts have set -Eeuo pipefail; deploying applies server-side, waits by rollout status, policies first, with preflight, dry run, undo",
    check,
};

fn check(set: &Set, report: &mut Report) {
    for script in &set.scripts {
        let commands = commands(&script.text);
        if !is_posix(script) && !commands.iter().any(|(_, command)| command.starts_with("set -Eeuo pipefail"))
        {
            at(
                report,
                script,
                1,
                "it goes on after a failure in a pipe or a function",
                "start with set -Eeuo pipefail",
            );
        }
        check_commands(script, &commands, report);
        if script.file.rsplit('/').next() == Some("deploy.sh") {
            check_deploy(script, report);
        }
    }
}

fn check_commands(script: &Script, commands: &[(usize, String)], report: &mut Report) {
    let mut workload = None;
    for (line, command) in commands {
        if command.contains("kubectl wait")
            && [" -l ", " --selector"].iter().any(|word| command.contains(word))
        {
            at(
                report,
                script,
                *line,
                "kubectl wait by label fails before there are pods, and passes while some are missing",
                "use kubectl rollout status",
            );
        }
        if command.contains("kubectl apply") {
            if !command.contains("--server-side") {
                at(report, script, *line, "it applies on the client", "use --server-side");
            }
            let starts = ["namespace", "secret", "config", "storage", "polic"];
            if command.contains("polic") && workload.is_some() {
                at(
                    report,
                    script,
                    *line,
                    "policies come after the pods that they are for",
                    "apply them first",
                );
            } else if command.contains(".yaml") && !starts.iter().any(|word| command.contains(word)) {
                workload = Some(*line);
            }
        }
    }
}

/// What a deployment needs as a whole.
fn check_deploy(script: &Script, report: &mut Report) {
    let needed = [
        ("rollout status", "it does not wait until pods run", "use kubectl rollout status"),
        ("--dry-run", "it can not be tried out", "add --dry-run"),
        ("undo", "it can not be undone", "add undo"),
        (
            "current-context",
            "it does not look which cluster it is about to change",
            "show the context and ask",
        ),
        ("crd", "it does not look whether the custom resources are known", "ask for the CRDs first"),
        ("storageclass", "it does not look whether the storage classes exist", "ask for them first"),
        ("metrics", "it does not look whether metrics-server is there", "ask for the metrics API first"),
    ];
    let text = script.text.to_lowercase();
    for (word, what, remedy) in needed {
        if !text.contains(word) {
            at(report, script, 1, what, remedy);
        }
    }
}

fn at(report: &mut Report, script: &Script, line: usize, what: &str, remedy: &str) {
    report.in_file(&script.file, format!("line {line}"), what, remedy);
}

/// A shell that has no pipefail says so in its first line.
fn is_posix(script: &Script) -> bool {
    script.text.lines().next().is_some_and(|first| first.starts_with("#!") && first.ends_with("/sh"))
}

/// Commands with the line that they begin at: continued lines joined, comments left out.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut commands: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (idx, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('#') && !open {
            continue;
        }
        let (part, goes_on) = match line.strip_suffix('\\') {
            Some(part) => (part.trim_end(), true),
            None => (line, false),
        };
        match commands.last_mut() {
            Some((_, command)) if open => {
                command.push(' ');
                command.push_str(part);
            }
            _ => commands.push((idx + 1, part.to_owned())),
        }
        open = goes_on;
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found_in_script;

    const GOOD: &str = "#!/usr/bin/env bash
# kubectl wait -l app=x is what we do not do
set -Eeuo pipefail
kubectl config current-context
kubectl get crd scaledobjects.keda.sh; kubectl get storageclass fast; kubectl top nodes # metrics
kubectl apply --server-side ${1:+--dry-run=server} -f policies.yaml
kubectl apply --server-side -f head.yaml
kubectl rollout status deployment/head || kubectl rollout undo deployment/head
";

    #[test]
    fn each_defect_is_found_at_its_line() {
        assert_eq!(found_in_script(&RULE, "deploy.sh", GOOD), [""; 0]);
        for (good, bad, what) in [
            ("set -Eeuo pipefail", "set -e", "line 1: it goes on after a failure in a pipe or a function"),
            (
                "kubectl rollout status",
                "kubectl wait --for=x \\\n  -l app=x pod; kubectl rollout status",
                "line 8: kubectl wait by label fails before there are pods, and passes while some are missing",
            ),
            ("apply --server-side -f head", "apply -f head", "line 7: it applies on the client"),
            ("current-context", "view", "line 1: it does not look which cluster it is about to change"),
            ("--dry-run=server", "x", "line 1: it can not be tried out"),
        ] {
            assert_eq!(found_in_script(&RULE, "deploy.sh", &GOOD.replace(good, bad)), [what]);
        }
    }

    #[test]
    fn policies_come_first() {
        let late = GOOD.to_owned() + "kubectl apply --server-side -f network-policy.yaml\n";
        assert_eq!(
            found_in_script(&RULE, "deploy.sh", &late),
            ["line 9: policies come after the pods that they are for"]
        );
    }

    #[test]
    fn other_scripts_need_to_stop_at_failures_only() {
        assert_eq!(found_in_script(&RULE, "x.sh", "set -Eeuo pipefail\n"), [""; 0]);
        assert_eq!(found_in_script(&RULE, "x.sh", "echo\n").len(), 1);
        assert_eq!(found_in_script(&RULE, "x.sh", "#!/bin/sh\nset -eu\n"), [""; 0]);
    }
}

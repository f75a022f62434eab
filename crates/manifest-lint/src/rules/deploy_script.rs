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
    let sourced: Vec<_> = set.scripts.iter().flat_map(|script| sourced(&script.text)).collect();
    let wrappers = wrappers(&set.scripts);
    for script in &set.scripts {
        let commands = commands(&script.text);
        // What is read into another script goes by the settings of that one.
        let own_settings = !is_posix(script) && !sourced.contains(&name(script));
        if own_settings && !commands.iter().any(|(_, command)| command.starts_with("set -Eeuo pipefail")) {
            at(
                report,
                script,
                1,
                "it goes on after a failure in a pipe or a function",
                "start with set -Eeuo pipefail",
            );
        }
        check_commands(script, &commands, &wrappers, report);
        if name(script) == "deploy.sh" {
            let read = self::sourced(&script.text);
            let parts = set.scripts.iter().filter(|part| read.contains(&name(part)));
            let whole: Vec<_> = std::iter::once(script).chain(parts).map(|part| part.text.as_str()).collect();
            check_deploy(script, &whole.join("\n").to_lowercase(), report);
        }
    }
}

fn check_commands(script: &Script, commands: &[(usize, String)], wrappers: &[&str], report: &mut Report) {
    let mut workload = None;
    for (line, command) in commands {
        let by_label = |word: &&str| *word == "-l" || word.starts_with("--selector");
        if call(command, wrappers, "wait").iter().any(by_label) {
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

/// The words behind `verb`, where the command calls kubectl with it.
fn call<'a>(command: &'a str, wrappers: &[&str], verb: &str) -> Vec<&'a str> {
    let words = command.split_whitespace().skip_while(|word| {
        let program = word.trim_start_matches("$(");
        program != "kubectl" && !wrappers.contains(&program)
    });
    words.skip_while(|word| *word != verb).skip(1).collect()
}

/// Functions of one line that call kubectl.
fn wrappers(scripts: &[Script]) -> Vec<&str> {
    let lines = scripts.iter().flat_map(|script| script.text.lines());
    lines.filter_map(|line| line.split_once("() { kubectl ")).map(|(name, _)| name.trim()).collect()
}

/// Names of the files that a script reads into itself.
fn sourced(text: &str) -> Vec<&str> {
    let lines =
        text.lines().map(str::trim).filter(|line| line.starts_with(". ") || line.starts_with("source "));
    lines.filter_map(|line| line.rsplit('/').next()).map(|name| name.trim_end_matches('"')).collect()
}

fn name(script: &Script) -> &str {
    script.file.rsplit('/').next().unwrap_or_default()
}

/// What a deployment needs as a whole.
fn check_deploy(script: &Script, text: &str, report: &mut Report) {
    let needed = [
        ("rollout status", "it does not wait until pods run", "use kubectl rollout status"),
        ("--server-side", "it applies on the client", "use --server-side"),
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
    use crate::input::Input;
    use crate::tables::Secrets;
    use crate::testing::{found_in, found_in_script};

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
    fn what_it_reads_in_is_part_of_it() {
        let whole = Script {
            file: "deploy.sh".to_owned(),
            text: ". \"$here/lib/all.sh\"\nset -Eeuo pipefail\n".to_owned(),
        };
        let part = |text: String| Script { file: "lib/all.sh".to_owned(), text };
        let found = |text: String| {
            let input = Input { objects: Vec::new(), scripts: vec![whole.clone(), part(text)] };
            found_in(&RULE, &Set::new(input, Secrets::default(), None))
        };
        let body = GOOD.replace("set -Eeuo pipefail\n", "cluster() { kubectl --context x \"$@\"; }\n");
        assert_eq!(found(body.clone()), [""; 0]);
        assert_eq!(found(body.replace("undo", "status")), ["line 1: it can not be undone"]);
        assert_eq!(
            found(body + "cluster -n a wait pod -l x=y\n"),
            ["line 9: kubectl wait by label fails before there are pods, and passes while some are missing"]
        );
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

//! What the tests of rules share: manifests as text in, findings as lines out.

use crate::finding::Report;
use crate::input::{Input, yaml};
use crate::rules::Rule;
use crate::set::{Script, Set};
use crate::tables::{Flows, Secrets};

/// A set of these documents, with nothing beside them.
pub(crate) fn set(documents: &str) -> Set {
    Set::new(Input::stream("test", documents).unwrap(), Secrets::default(), None)
}

/// A set that has tables as well.
pub(crate) fn set_with(documents: &str, secrets: &str, flows: &str) -> Set {
    let secrets: Secrets = if secrets.is_empty() { Secrets::default() } else { yaml(secrets).unwrap() };
    let flows: Option<Flows> = (!flows.is_empty()).then(|| yaml(flows).unwrap());
    Set::new(Input::stream("test", documents).unwrap(), secrets, flows)
}

/// `object: what` for each finding of one rule.
pub(crate) fn found(rule: &Rule, documents: &str) -> Vec<String> {
    found_in(rule, &set(documents))
}

pub(crate) fn found_in(rule: &Rule, set: &Set) -> Vec<String> {
    let mut report = Report::new(rule.id);
    (rule.check)(set, &mut report);
    report
        .into_findings()
        .into_iter()
        .map(|finding| format!("{}: {}", finding.object, finding.what))
        .collect()
}

/// What a rule finds in a script.
pub(crate) fn found_in_script(rule: &Rule, file: &str, text: &str) -> Vec<String> {
    let input =
        Input { objects: Vec::new(), scripts: vec![Script { file: file.to_owned(), text: text.to_owned() }] };
    found_in(rule, &Set::new(input, Secrets::default(), None))
}

/// A Deployment `a/d` whose pods are labelled `app: d`, with these lines in the spec of its pods.
pub(crate) fn deployment(pod: &str) -> String {
    workload("apps/v1", "Deployment", pod)
}

/// As [`deployment`], of another kind.
pub(crate) fn workload(api_version: &str, kind: &str, pod: &str) -> String {
    let pod: String = pod.trim_matches('\n').lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "
apiVersion: {api_version}
kind: {kind}
metadata: {{name: d, namespace: a}}
spec:
  selector: {{matchLabels: {{app: d}}}}
  template:
    metadata: {{labels: {{app: d}}}}
    spec:
{pod}"
    )
}

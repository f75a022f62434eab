//! Autoscalers ask for series that somebody exports.

use serde_json::Value;

use super::Rule;
use super::promql::series;
use crate::finding::Report;
use crate::input::yaml;
use crate::look::Look as _;
use crate::set::Set;
use crate::tables::exported_metrics;

pub(super) const RULE: Rule = Rule {
    id: "keda-metric",
    explains: "queries of autoscalers read series that heads, workers or recording rules export, by labels that these have",
    check,
};

/// Labels of our series, and those that Prometheus adds.
const LABELS: &[&str] = &[
    "model_name",
    "engine",
    "finished_reason",
    "kind",
    "le",
    "outcome",
    "reason",
    "state",
    "namespace",
    "pod",
    "node",
    "job",
    "instance",
];

fn check(set: &Set, report: &mut Report) {
    let exported = exported_metrics();
    let recorded = recorded(set);
    for scaled in set.of_kind("ScaledObject") {
        for trigger in scaled.value.items("spec.triggers") {
            let query = trigger.text("metadata.query");
            if trigger.text("type") != "prometheus" {
                continue;
            }
            if query.is_empty() {
                report.at(scaled, "a trigger has no query", "write one");
            }
            for series in series(query) {
                let name = base(&series.name);
                let ours = exported.contains(&name) || exported.contains(&series.name.as_str());
                if !ours && !recorded.contains(&series.name) {
                    report.at(
                        scaled,
                        format!("nobody exports {}", series.name),
                        "see tables/metrics.txt for what there is",
                    );
                }
                for label in series.labels.iter().filter(|label| ours && !LABELS.contains(&label.as_str())) {
                    report.at(
                        scaled,
                        format!("{} has no label {label}", series.name),
                        "models are told apart by model_name",
                    );
                }
            }
        }
    }
}

/// The name of a histogram without what its series end with.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

/// Names of recording rules in any ConfigMap.
fn recorded(set: &Set) -> Vec<String> {
    let texts = set.of_kind("ConfigMap").flat_map(|config| config.value.entries("data"));
    let rules = texts.filter(|(_, text)| text.as_str().is_some_and(|text| text.contains("record:")));
    let files = rules.filter_map(|(_, text)| yaml::<Value>(text.as_str()?).ok());
    let mut names = Vec::new();
    for file in files {
        for group in file.items("groups") {
            names.extend(group.items("rules").iter().map(|rule| rule.text("record").to_owned()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    fn scaled(query: &str) -> String {
        format!(
            "kind: ScaledObject\nmetadata: {{name: s, namespace: a}}\nspec: {{triggers: [{{type: prometheus, metadata: {{query: '{query}'}}}}]}}"
        )
    }

    #[test]
    fn series_and_labels_exist() {
        assert_eq!(
            found(&RULE, &scaled("sum(vlinders_head_queue_depth{model_name=\"m\"}) or vector(0)")),
            [""; 0]
        );
        assert_eq!(found(&RULE, &scaled("rate(vlinders_step_seconds_sum[5m])")), [""; 0]);
        assert_eq!(
            found(&RULE, &scaled("avg(gpu_utilization_percent)")),
            ["ScaledObject a/s: nobody exports gpu_utilization_percent"]
        );
        assert_eq!(
            found(&RULE, &scaled("sum(vlinders_head_queue_depth{model=\"m\"})")),
            ["ScaledObject a/s: vlinders_head_queue_depth has no label model"]
        );
    }

    #[test]
    fn recording_rules_make_series() {
        let rules = "\n---\nkind: ConfigMap\nmetadata: {name: r, namespace: m}\ndata: {r.yaml: '{groups: [{rules: [{record: \"a:b\"}]}]}'}";
        assert_eq!(found(&RULE, &(scaled("a:b") + rules)).len(), 0);
        assert_eq!(found(&RULE, &scaled("a:b")).len(), 1);
    }
}

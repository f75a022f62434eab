//! Everything can be selected by what it is and by what it belongs to.

use super::Rule;
use crate::finding::Report;
use crate::set::Set;
use crate::workload::labels;

pub(super) const RULE: Rule = Rule {
    id: "labels",
    explains: "objects and pods have the labels app.kubernetes.io/name and app.kubernetes.io/part-of",
    check,
};

const NEEDED: [&str; 2] = ["app.kubernetes.io/name", "app.kubernetes.io/part-of"];

fn check(set: &Set, report: &mut Report) {
    let objects = set.objects.iter().map(|object| (object, &object.value, "it"));
    let pods = set.workloads().into_iter().map(|pod| (pod.object, pod.template, "its pod"));
    for (object, value, what) in objects.chain(pods) {
        let labels = labels(value);
        let missing: Vec<_> = NEEDED.into_iter().filter(|label| !labels.contains_key(*label)).collect();
        if !missing.is_empty() {
            report.at(object, format!("{what} has no label {}", missing.join(", ")), "add it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::found;

    #[test]
    fn both_labels_are_needed_on_the_object_and_its_pods() {
        let good = "{labels: {app.kubernetes.io/name: x, app.kubernetes.io/part-of: whole}}";
        let document = |object: &str, pod: &str| {
            let object = object.replace("{labels", "{name: d, namespace: a, labels");
            format!(
                "kind: Deployment\nmetadata: {object}\nspec: {{template: {{metadata: {pod}, spec: {{containers: [{{name: c}}]}}}}}}"
            )
        };
        assert_eq!(found(&RULE, &document(good, good)), [""; 0]);
        let half = good.replace(", app.kubernetes.io/part-of: whole", "");
        assert_eq!(
            found(&RULE, &document(good, &half)),
            ["Deployment a/d: its pod has no label app.kubernetes.io/part-of"]
        );
        assert_eq!(
            found(&RULE, &document(&half, good)),
            ["Deployment a/d: it has no label app.kubernetes.io/part-of"]
        );
    }
}

//! A worker has a GPU for each rank of its model.

use serde_json::Value;

use super::Rule;
use super::model::models;
use crate::finding::Report;
use crate::look::Look as _;
use crate::quantity;
use crate::set::Set;
use crate::workload::{Container, Workload};

pub(super) const RULE: Rule = Rule {
    id: "gpu",
    explains: "nvidia.com/gpu equals tensor_parallel_size of the model, in requests as in limits; none where it runs on the CPU",
    check,
};

const GPU: &str = "nvidia.com/gpu";

fn check(set: &Set, report: &mut Report) {
    for pod in set.workloads() {
        for container in pod.containers() {
            check_container(set, &pod, &container, report);
        }
    }
}

fn check_container(set: &Set, pod: &Workload<'_>, container: &Container<'_>, report: &mut Report) {
    let amount =
        |kind: &str| quantity::parse(container.value.at("resources").at(kind).entry(GPU)).unwrap_or(0.0);
    let (name, limit) = (container.name(), amount("limits"));
    if amount("requests") != limit {
        report.at(
            pod.object,
            format!("{name} requests {} GPUs and is limited to {limit}", amount("requests")),
            "write the same number twice",
        );
    }
    let models = models(set, pod, container);
    let served: Vec<_> = match container.option("--model") {
        Some(model) => models.iter().filter(|other| other.text("name") == model).collect(),
        // It does not say which, so it has to be able to serve each.
        None if limit > 0.0 => models.iter().collect(),
        None => Vec::new(),
    };
    for model in served {
        let needed = gpus(model, container);
        let pods = pods_of_group(pod);
        if limit * pods != needed {
            report.at(
                pod.object,
                format!("{name} has {limit} GPUs on {pods} pods, `{}` needs {needed}", model.text("name")),
                "set nvidia.com/gpu to its tensor_parallel_size; one workload for each model",
            );
        }
    }
}

/// GPUs that a model takes in this container.
fn gpus(model: &Value, container: &Container<'_>) -> f64 {
    let device = model.text("device");
    let on_gpu = device.starts_with("cuda") || (device != "cpu" && !is_cpu_image(container.image()));
    if on_gpu { model.number("tensor_parallel_size").unwrap_or(1) as f64 } else { 0.0 }
}

/// Ours comes without GPU support unless its tag says otherwise.
fn is_cpu_image(image: &str) -> bool {
    image.contains("vlinders") && !image.ends_with("-gpu")
}

/// Ranks of a model may stand in several pods that make up one replica.
fn pods_of_group(pod: &Workload<'_>) -> f64 {
    match pod.object.kind() {
        "LeaderWorkerSet" => pod.object.value.number("spec.leaderWorkerTemplate.size").unwrap_or(1) as f64,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{found, workload};

    fn documents(gpus: &str, image: &str, model: &str) -> String {
        let pod = format!(
            "
containers:
- name: c
  image: {image}
  args: [worker, --model, one, --models, /etc/x/models.yaml]
  resources: {{requests: {{nvidia.com/gpu: {gpus}}}, limits: {{nvidia.com/gpu: {gpus}}}}}
  volumeMounts: [{{name: v, mountPath: /etc/x}}]
volumes:
- {{name: v, configMap: {{name: m}}}}"
        );
        let config = format!("data: {{models.yaml: '{{models: [{{name: one, {model}}}]}}'}}");
        workload("apps/v1", "Deployment", &pod)
            + "\n---\nkind: ConfigMap\nmetadata: {name: m, namespace: a}\n"
            + &config
    }

    #[test]
    fn gpus_are_ranks() {
        let four = "tensor_parallel_size: 4, device: cuda";
        assert_eq!(found(&RULE, &documents("4", "vlinders/vlinders:1-gpu", four)), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("1", "vlinders/vlinders:1-gpu", four)),
            ["Deployment a/d: c has 1 GPUs on 1 pods, `one` needs 4"]
        );
    }

    #[test]
    fn the_cpu_needs_none() {
        assert_eq!(found(&RULE, &documents("0", "vlinders/vlinders:1", "tensor_parallel_size: 2")), [""; 0]);
        assert_eq!(
            found(&RULE, &documents("1", "vlinders/vlinders:1-gpu", "device: cpu")),
            ["Deployment a/d: c has 1 GPUs on 1 pods, `one` needs 0"]
        );
        assert_eq!(found(&RULE, &documents("1", "vlinders/vlinders:1-gpu", "path: x")), [""; 0]);
    }

    #[test]
    fn a_group_of_pods_shares_the_ranks() {
        let eight = "tensor_parallel_size: 8, device: cuda";
        let group = documents("4", "vlinders/vlinders:1-gpu", eight)
            .replace("kind: Deployment", "kind: LeaderWorkerSet")
            .replace("  selector:", "  leaderWorkerTemplate: {size: 2}\n  selector:");
        assert_eq!(found(&RULE, &group), [""; 0]);
    }

    #[test]
    fn requests_equal_limits() {
        let good = documents("1", "vlinders/vlinders:1-gpu", "device: cuda");
        let bad = good.replace("requests: {nvidia.com/gpu: 1}", "requests: {cpu: 1}");
        assert_eq!(found(&RULE, &bad), ["Deployment a/d: c requests 0 GPUs and is limited to 1"]);
    }
}

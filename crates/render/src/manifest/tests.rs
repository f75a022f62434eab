//! What stands in the files of each kind of model, and what must follow from its description.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::worker::Replicas;

const GIB: u64 = 1 << 30;

fn worker(model: &str) -> Worker {
    Worker {
        model: model.to_owned(),
        gpus: 1,
        has_files: true,
        nodes: 1,
        ranks: 1,
        replicas: Replicas { min: 1, max: 10 },
        max_num_seqs: 256,
        cpu: "8".to_owned(),
        memory: 32 * GIB,
        shm: 8 * GIB,
        node_selector: BTreeMap::from([("nvidia.com/gpu.present".to_owned(), "true".to_owned())]),
    }
}

fn platform(autoscaler: Autoscaler) -> Platform {
    Platform {
        image: "vlinders".to_owned(),
        gpu_image: "vlinders-gpu".to_owned(),
        autoscaler,
        shutdown: Duration::from_secs(605),
    }
}

fn folder(worker: Worker, autoscaler: Autoscaler) -> Folder {
    render(&[worker], &platform(autoscaler)).unwrap()
}

/// All objects of a file, by kind.
fn objects(text: &str) -> BTreeMap<String, Value> {
    let documents = text.split("\n---\n").map(|document| serde_saphyr::from_str::<Value>(document).unwrap());
    documents.map(|object| (object["kind"].as_str().unwrap().to_owned(), object)).collect()
}

#[test]
fn a_model_on_one_gpu() {
    let folder = folder(worker("llama-3-8b"), Autoscaler::Keda);
    assert_eq!(
        folder.names().collect::<Vec<_>>(),
        ["kustomization.yaml", "llama-3-8b.scaledobject.yaml", "llama-3-8b.yaml"]
    );
    insta::assert_snapshot!("one_gpu", folder.get("llama-3-8b.yaml").unwrap());
    insta::assert_snapshot!("one_gpu_scaled", folder.get("llama-3-8b.scaledobject.yaml").unwrap());
    insta::assert_snapshot!("kustomization", folder.get("kustomization.yaml").unwrap());
}

#[test]
fn a_model_on_four_gpus() {
    let folder = folder(
        Worker {
            gpus: 4,
            replicas: Replicas { min: 2, max: 2 },
            memory: 64 * GIB,
            shm: 16 * GIB,
            node_selector: BTreeMap::new(),
            ..worker("llama-3-70b")
        },
        Autoscaler::Keda,
    );
    assert_eq!(folder.names().count(), 2, "a fixed number of replicas is nothing to scale");
    insta::assert_snapshot!("four_gpus", folder.get("llama-3-70b.yaml").unwrap());
}

#[test]
fn a_built_in_model_on_the_cpu() {
    let folder = folder(
        Worker {
            gpus: 0,
            has_files: false,
            replicas: Replicas { min: 1, max: 1 },
            cpu: "1".to_owned(),
            memory: GIB,
            shm: 0,
            node_selector: BTreeMap::new(),
            ..worker("vlinders-demo")
        },
        Autoscaler::None,
    );
    insta::assert_snapshot!("cpu_built_in", folder.get("vlinders-demo.yaml").unwrap());
}

#[test]
fn a_model_larger_than_a_node() {
    let folder = folder(Worker { nodes: 2, ranks: 8, gpus: 8, ..worker("large") }, Autoscaler::Keda);
    insta::assert_snapshot!("two_nodes", folder.get("large.yaml").unwrap());
    let scaled = &objects(folder.get("large.scaledobject.yaml").unwrap())["ScaledObject"];
    assert_eq!(scaled["spec"]["scaleTargetRef"]["kind"], "LeaderWorkerSet");
    let long = Worker { nodes: 2, ..worker(&"x".repeat(41)) };
    assert!(matches!(render(&[long], &platform(Autoscaler::Keda)), Err(RenderError::TooLong(_))));
}

#[test]
fn a_model_that_may_sleep_has_no_replicas_until_somebody_asks() {
    let sleepy = Worker { replicas: Replicas { min: 0, max: 3 }, ..worker("a") };
    let scaled = folder(sleepy.clone(), Autoscaler::Keda);
    let object = &objects(scaled.get("a.scaledobject.yaml").unwrap())["ScaledObject"]["spec"];
    assert_eq!((&object["minReplicaCount"], &object["maxReplicaCount"]), (&0.into(), &3.into()));
    assert_eq!(object["fallback"]["replicas"], 1, "without metrics somebody has to answer");
    assert!(objects(scaled.get("a.yaml").unwrap())["Deployment"]["spec"].get("replicas").is_none());

    let fixed = folder(sleepy, Autoscaler::None);
    assert!(fixed.get("a.scaledobject.yaml").is_none());
    let deployment = &objects(fixed.get("a.yaml").unwrap())["Deployment"]["spec"];
    assert_eq!(deployment["replicas"], 1, "nothing would ever wake it");
}

#[test]
fn shared_memory_is_counted_in_the_limit_and_limits_are_what_is_requested() {
    for (memory, shm, sum, size) in [
        (32 * GIB, 8 * GIB, "40Gi", Some("8Gi")),
        (GIB, 512 << 20, "1536Mi", Some("512Mi")),
        (1024 * GIB, 1024 * GIB, "2Ti", Some("1Ti")),
        (2 * GIB, 0, "2Gi", None),
    ] {
        let folder = folder(Worker { memory, shm, ..worker("a") }, Autoscaler::None);
        let pod = &objects(folder.get("a.yaml").unwrap())["Deployment"]["spec"]["template"]["spec"];
        let resources = &pod["containers"][0]["resources"];
        assert_eq!(resources["limits"]["memory"], sum);
        assert_eq!(resources["requests"], resources["limits"]);
        let volumes = pod["volumes"].as_array().unwrap();
        let mounted = volumes.iter().find(|volume| volume["name"] == "shm");
        assert_eq!(mounted.map(|volume| volume["emptyDir"]["sizeLimit"].as_str().unwrap()), size);
    }
}

#[test]
fn as_many_gpus_as_ranks_on_the_gpu_image_and_none_on_the_other() {
    for (gpus, image) in [(0, "vlinders"), (1, "vlinders-gpu"), (8, "vlinders-gpu")] {
        let folder = folder(Worker { gpus, ..worker("a") }, Autoscaler::None);
        let pod = &objects(folder.get("a.yaml").unwrap())["Deployment"]["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let asked = container["resources"]["limits"].get("nvidia.com/gpu").cloned();
        assert_eq!(asked, (gpus > 0).then(|| gpus.to_string().into()));
        assert_eq!(container["image"], image);
        assert_eq!(pod.get("tolerations").is_some(), gpus > 0);
    }
}

#[test]
fn pods_outlive_what_the_server_promises() {
    for (millis, seconds) in [(605_000, 625), (605_001, 626)] {
        let platform = Platform { shutdown: Duration::from_millis(millis), ..platform(Autoscaler::None) };
        let folder = render(&[worker("a")], &platform).unwrap();
        let pod = &objects(folder.get("a.yaml").unwrap())["Deployment"]["spec"]["template"]["spec"];
        assert_eq!(pod["terminationGracePeriodSeconds"], seconds);
    }
}

#[test]
fn eight_tenths_of_what_runs_at_once_are_exact() {
    for (max_num_seqs, threshold) in [(256, "204.8"), (64, "51.2"), (10, "8"), (1, "0.8")] {
        let folder = folder(Worker { max_num_seqs, ..worker("a") }, Autoscaler::Keda);
        let object = &objects(folder.get("a.scaledobject.yaml").unwrap())["ScaledObject"];
        assert_eq!(object["spec"]["triggers"][1]["metadata"]["threshold"], threshold);
    }
}

#[test]
fn names_with_special_characters_stay_what_they_are() {
    let name = "Org/it's \"8b\": $(HOME) #1";
    let folder = folder(worker(name), Autoscaler::Keda);
    let container = &objects(folder.get("org-it-s-8b-home-1.yaml").unwrap())["Deployment"]["spec"]["template"]
        ["spec"]["containers"][0];
    assert_eq!(container["args"][2], "Org/it's \"8b\": $$(HOME) #1");
    let scaled = &objects(folder.get("org-it-s-8b-home-1.scaledobject.yaml").unwrap())["ScaledObject"];
    let query = scaled["spec"]["triggers"][1]["metadata"]["query"].as_str().unwrap();
    assert_eq!(
        query,
        r#"sum(vlinders_num_requests_running{model_name="Org/it's \"8b\": $(HOME) #1"}) or vector(0)"#
    );
    let error = render(&[worker("a\nb")], &platform(Autoscaler::Keda)).unwrap_err();
    assert!(matches!(error, RenderError::ControlCharacter(_)));
}

#[test]
fn two_models_with_one_name_in_kubernetes_are_an_error() {
    let error = render(&[worker("llama.3"), worker("LLAMA_3")], &platform(Autoscaler::Keda)).unwrap_err();
    assert!(matches!(error, RenderError::SlugTaken { .. }), "{error}");
}

#[test]
fn the_order_in_models_yaml_changes_no_byte() {
    let (a, b) = (worker("a"), worker("b"));
    let platform = platform(Autoscaler::Keda);
    assert_eq!(render(&[a.clone(), b.clone()], &platform).unwrap(), render(&[b, a], &platform).unwrap());
}

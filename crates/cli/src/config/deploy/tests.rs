//! What a `deploy` section means, and how each mistake in it is told.

use super::*;

fn workers(text: &str) -> Result<Vec<Worker>, ConfigError> {
    read_workers(Path::new("models.yaml"), text)
}

fn sources(text: &str, dest: Option<&str>) -> Result<Vec<FetchedModel>, ConfigError> {
    read_sources(Path::new("etc/models.yaml"), text, dest.map(Path::new), &[])
}

const WHOLE: &str = "
models:
  - name: llama-3-70b
    path: /models/llama-3-70b
    device: cuda
    tensor_parallel_size: 4
    max_num_seqs: 100
    deploy:
      source: hf://meta-llama/Llama-3.1-70B-Instruct@main
      replicas: { min: 0, max: 4 }
      nodes: 1
      cpu: 16
      memory: 64Gi
      shm: 512Mi
      node_selector:
        nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3
        here: true
  - name: off
    path: nowhere
    enabled: false
    deploy: { replicas: 0 }
";

#[test]
fn the_whole_of_deploy() {
    let selector = [("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"), ("here", "true")];
    let expected = Worker {
        model: "llama-3-70b".to_owned(),
        gpus: 4,
        has_files: true,
        nodes: 1,
        ranks: 4,
        replicas: Replicas { min: 0, max: 4 },
        max_num_seqs: 100,
        cpu: "16".to_owned(),
        memory: 64 * GIB,
        shm: 512 << 20,
        node_selector: selector.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    };
    assert_eq!(workers(WHOLE).unwrap(), [expected]);
}

#[test]
fn what_is_left_out_has_a_default() {
    let builtin = &workers("models:\n  - { name: demo, path: builtin:vlinders-demo }\n").unwrap()[0];
    assert_eq!((builtin.gpus, builtin.has_files, builtin.cpu.as_str()), (0, false, "1"));
    assert_eq!((builtin.memory, builtin.shm, builtin.max_num_seqs), (GIB, 0, 64));
    assert_eq!(builtin.replicas, Replicas { min: 1, max: 1 });
    let on_gpus = "models:\n  - { name: a, path: /models/a, device: cuda, tensor_parallel_size: 2, deploy: { memory: 9Gi } }\n";
    let on_gpus = &workers(on_gpus).unwrap()[0];
    assert_eq!(
        (on_gpus.gpus, on_gpus.shm, on_gpus.max_num_seqs, on_gpus.cpu.as_str()),
        (2, 8 * GIB, 256, "4")
    );
    let wide = "models:\n  - { name: a, path: /models/a, device: cuda, tensor_parallel_size: 2, deploy: { memory: 9Gi, nodes: 2 } }\n";
    let wide = &workers(wide).unwrap()[0];
    assert_eq!((wide.nodes, wide.ranks, wide.gpus, wide.shm), (2, 1, 1, 0), "each pod has one rank");
    let wider = "models:\n  - { name: a, path: /models/a, device: cuda, tensor_parallel_size: 16, deploy: { memory: 9Gi, nodes: 2 } }\n";
    let wider = &workers(wider).unwrap()[0];
    assert_eq!((wider.nodes, wider.ranks, wider.gpus, wider.shm), (2, 8, 8, 8 * GIB));
}

/// What is wrong with `deploy` is nothing to a server, unless it is no such section at all.
#[test]
fn whoever_serves_leaves_it_alone() {
    let read = |deploy: &str| {
        let text = format!("models:\n  - name: a\n    path: builtin:vlinders-demo\n    deploy: {deploy}\n");
        let serves = super::super::models::read(Path::new("models.yaml"), &text, None).is_ok();
        let offers = super::super::models::read_offers(Path::new("models.yaml"), &text).is_ok();
        (serves, offers)
    };
    assert_eq!(read("{ replicas: 0, source: nowhere, nodes: 7 }"), (true, true));
    assert_eq!(read("{ replica: 1 }"), (false, false));
}

#[test]
fn mistakes_in_deploy() {
    let model = |deploy: &str| {
        format!(
            "models:\n  - name: a\n    path: /models/a\n    device: cuda\n    deploy:\n      memory: 1Gi\n{deploy}"
        )
    };
    let cases = [
        model("      replica: 2\n"),
        model("      replicas: some\n"),
        model("      replicas: 0\n"),
        model("      replicas: -1\n"),
        model("      replicas: { min: 3, max: 2 }\n"),
        model("      replicas: { min: 1, most: 2 }\n"),
        model("      replicas: { min: 1 }\n"),
        model("      nodes: 2\n"),
        model("      cpu: many\n      shm: 1 shelf\n"),
        model("      source: meta-llama/Llama-3.1-8B\n"),
        model("      source: https://me:hunter2@host/folder\n"),
        model("      node_selector: [gpu]\n"),
        "models:\n  - name: a\n    path: models/a\n    deploy:\n      memory: 1Gi\n".to_owned(),
        "models:\n  - name: a\n    path: /models/../a\n    device: cuda:1\n    deploy:\n      memory: 0\n".to_owned(),
        "models:\n  - { name: a.b, path: /models/a, device: cpu }\n  - { name: A-B, path: /models/b, device: cpu, deploy: { memory: 1Gi } }\n".to_owned(),
    ];
    let told = cases.iter().map(|text| match workers(text) {
        Ok(_) => format!("ACCEPTED: {text}"),
        Err(error) => error.to_string(),
    });
    let told = told.collect::<Vec<_>>().join("\n\n");
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told);
}

#[test]
fn where_files_go() {
    let target = |text: &str, dest: Option<&str>| {
        let text = format!("models:\n  - name: a\n    path: {text}\n    deploy: {{ source: s3://b/a }}\n");
        sources(&text, dest).map(|models| {
            let Target { folder, gguf } = models[0].target.clone();
            (folder.to_string_lossy().into_owned(), gguf)
        })
    };
    assert_eq!(target("/models/a", None).unwrap(), ("/models/a".to_owned(), None));
    assert_eq!(target("models/a", None).unwrap(), ("etc/models/a".to_owned(), None), "as a server reads it");
    assert_eq!(target("/models/x/a", Some("/mnt")).unwrap(), ("/mnt/x/a".to_owned(), None));
    assert_eq!(
        target("/models/a-Q8_0.gguf", Some("/mnt")).unwrap(),
        ("/mnt".to_owned(), Some("a-Q8_0.gguf".to_owned()))
    );
    for path in ["/models", "/models/../etc", "/other/a", "models/a"] {
        let error = target(path, Some("/mnt")).unwrap_err().to_string();
        assert!(error.contains("does not lie under /models"), "{error}");
    }
    assert!(target("builtin:vlinders-demo", None).unwrap_err().to_string().contains("remove `source`"));
}

#[test]
fn models_that_are_off_or_have_no_source_are_not_fetched() {
    assert_eq!(sources(WHOLE, None).unwrap().len(), 1);
    assert_eq!(sources("models:\n  - { name: a, path: /models/a }\n", None).unwrap(), []);
    let only = |name: &str| read_sources(Path::new("models.yaml"), WHOLE, None, &[name.to_owned()]);
    assert_eq!(only("llama-3-70b").unwrap().len(), 1);
    let error = only("off").unwrap_err().to_string();
    assert!(error.contains("no enabled model 'off'") && error.contains("it has llama-3-70b"), "{error}");
}

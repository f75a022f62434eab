//! What is checked in under deploy/ is what models.yaml gives. That is how CI fails on stale files.

use std::path::{Path, PathBuf};

use super::*;

/// Below the root of the repository.
fn path(text: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(text)
}

fn args(models: &str, out: &str, autoscaler: AutoscalerKind) -> RenderArgs {
    RenderArgs {
        models: path(models),
        server: Some(path("deploy/base/config/server.yaml")),
        out: path(out),
        autoscaler,
        image: "vlinders".to_owned(),
        gpu_image: "vlinders-gpu".to_owned(),
        check: true,
    }
}

#[track_caller]
fn assert_fresh(args: &RenderArgs) {
    let differences = rendered(args).unwrap().differences(&args.out).unwrap();
    let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{told:?} in {}; refresh: {}", args.out.display(), refresh(args));
}

#[test]
fn the_workers_of_production_are_those_of_its_models() {
    assert_fresh(&args(
        "deploy/base/config/models.yaml",
        "deploy/overlays/production/models",
        AutoscalerKind::Keda,
    ));
}

#[test]
fn the_workers_of_dev_cpu_are_those_of_its_models() {
    assert_fresh(&args(
        "deploy/overlays/dev-cpu/models.yaml",
        "deploy/overlays/dev-cpu/models",
        AutoscalerKind::None,
    ));
}

/// The component says that it is what its models.yaml entry gives.
#[test]
fn the_example_of_a_group_is_what_its_entry_gives() {
    let component = path("deploy/components/leader-worker-set");
    let text = std::fs::read_to_string(component.join("kustomization.yaml")).unwrap();
    let entry: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("#   "))
        .skip_while(|line| !line.starts_with("- name: "))
        .collect();
    assert!(entry.len() > 5, "{text}");
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models.yaml");
    std::fs::write(&models, format!("models:\n{}\n", entry.join("\n"))).unwrap();
    let args = RenderArgs { models, ..args("", "", AutoscalerKind::None) };
    let rendered = rendered(&args).unwrap();
    let ours = rendered.get("llama-3-70b-wide.yaml").unwrap();
    let theirs = std::fs::read_to_string(component.join("worker.yaml")).unwrap();
    assert_eq!(theirs.lines().count(), ours.lines().count());
    // The first line says what the file is.
    for (theirs, ours) in theirs.lines().zip(ours.lines()).skip(1) {
        assert_eq!(theirs, ours);
    }
}

#[test]
fn the_command_that_refreshes_says_only_what_is_needed() {
    let args = RenderArgs {
        models: "m.yaml".into(),
        server: None,
        out: "out".into(),
        ..args("", "", AutoscalerKind::None)
    };
    assert_eq!(refresh(&args), "vlinders deploy render --models m.yaml --out out --autoscaler none");
}

//! Each overlay of deploy/, alone and with each component that it leaves to choose: nothing is found. Needs `kubectl`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use vlinders_manifest_lint::{Input, Set, check, external_secrets};

use crate::deploy;

/// An overlay with a component that is left to choose.
const CHOICES: &[(&str, &str)] = &[
    ("production", "external-secrets"),
    ("production", "leader-worker-set"),
    ("dev-cpu", "external-secrets"),
];

fn set(name: &str, rendered: &str) -> Set {
    let mut input = Input::stream(name, rendered).unwrap();
    for folder in ["", "scripts", "scripts/lib"] {
        input = input.with_scripts(&deploy::folder().join(folder)).unwrap();
    }
    Set::new(input, deploy::secrets(), Some(deploy::flows()))
}

/// What an overlay renders to once an operator has added a component to it.
fn with_component(overlay: &str, component: &str) -> String {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(&deploy::folder(), copy.path());
    let folder = copy.path().join("overlays").join(overlay);
    let file = folder.join("kustomization.yaml");
    let line = format!("  - ../../components/{component}");
    let text = fs::read_to_string(&file).unwrap();
    let text = if text.contains("\ncomponents:\n") {
        text.replace("\ncomponents:\n", &format!("\ncomponents:\n{line}\n"))
    } else {
        format!("{text}\ncomponents:\n{line}\n")
    };
    fs::write(&file, text).unwrap();
    add_model(copy.path(), component);
    deploy::rendered(&folder)
}

/// The entry of models.yaml that a component shows in its comments.
fn add_model(deploy: &Path, component: &str) {
    let said =
        fs::read_to_string(deploy.join("components").join(component).join("kustomization.yaml")).unwrap();
    let shown = said.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| line.starts_with("  "));
    let entry: String = shown.map(|line| format!("{line}\n")).collect();
    let file = deploy.join("base/config/models.yaml");
    let models = fs::read_to_string(&file).unwrap();
    fs::write(file, models + &entry).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn overlays() -> Vec<String> {
    let entries = fs::read_dir(deploy::folder().join("overlays")).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every set that somebody may apply.
fn all() -> Vec<(String, String)> {
    let plain = overlays().into_iter().map(|name| {
        let text = deploy::rendered(&deploy::folder().join("overlays").join(&name));
        (name, text)
    });
    let chosen = CHOICES.iter().map(|(overlay, component)| {
        (format!("{overlay} with {component}"), with_component(overlay, component))
    });
    plain.chain(chosen).collect()
}

#[test]
fn nothing_is_found() {
    let mut lines = Vec::new();
    for (name, text) in all() {
        lines.extend(check(&set(&name, &text)).iter().map(|finding| format!("{name}: {finding}")));
    }
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn every_component_is_looked_at() {
    let production =
        fs::read_to_string(deploy::folder().join("overlays/production/kustomization.yaml")).unwrap();
    for entry in fs::read_dir(deploy::folder().join("components")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let part_of_production = production.contains(&format!("\n  - ../../components/{name}\n"));
        let chosen = CHOICES.iter().any(|(_, component)| *component == name);
        assert!(part_of_production || chosen, "no test renders {name}");
    }
}

#[test]
fn every_secret_of_the_table_is_used_somewhere() {
    let rendered: Vec<_> = all().into_iter().map(|(_, text)| text).collect();
    for entry in deploy::secrets().secrets.iter().filter(|entry| !entry.unused) {
        let uses = [format!("secretName: {}\n", entry.name), format!("name: {}\n", entry.name)];
        let used = rendered.iter().any(|text| uses.iter().any(|use_| text.contains(use_.as_str())));
        assert!(used, "nobody uses {}/{}", entry.namespace, entry.name);
    }
}

#[test]
fn every_party_has_flows() {
    let flows = deploy::flows();
    let named: BTreeSet<_> = flows.flows.iter().flat_map(|flow| [&flow.from, &flow.to]).collect();
    let silent: Vec<_> = flows.parties.keys().filter(|party| !named.contains(party)).collect();
    assert!(silent.is_empty(), "{silent:?} talk to nobody");
}

#[test]
fn external_secrets_make_what_is_declared() {
    let text = with_component("production", "external-secrets");
    let (mut made, mut keys) = (BTreeSet::new(), BTreeSet::new());
    for (namespace, name, of_secret) in external_secrets(&text).unwrap() {
        keys.extend(of_secret.into_iter().map(|key| (namespace.clone(), name.clone(), key)));
        made.insert((namespace, name));
    }
    let declared = deploy::secrets().secrets;
    // Whoever needs these gives them to make-secrets.sh, or to cert-manager.
    let expected = declared.iter().filter(|entry| !entry.unused && entry.name != "kong-tls");
    let mut missing = Vec::new();
    for entry in expected {
        for key in &entry.keys {
            if !keys.contains(&(entry.namespace.clone(), entry.name.clone(), key.clone())) {
                missing.push(format!("{}/{} {key}", entry.namespace, entry.name));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    let known = |(namespace, name): &(String, String)| {
        declared.iter().any(|entry| entry.namespace == *namespace && entry.name == *name)
    };
    assert!(made.iter().all(known), "{made:?}");
}

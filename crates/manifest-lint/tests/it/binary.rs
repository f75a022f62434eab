//! The program as it is called: what it prints, how it ends, what it says when something is missing.

use std::path::Path;
use std::process::{Command, Output};

fn lint(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manifest-lint"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn said(output: &Output) -> String {
    text(&output.stderr)
}

#[test]
fn findings_end_it_with_one() {
    let output =
        lint(&["--folder", "tests/first-draft", "--tables", "tests/first-draft-tables"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "storage.yaml/StorageClass fast-ssd: storage-class: its volumes can not grow: set allowVolumeExpansion: true";
    assert!(text(&output.stdout).lines().any(|line| line == expected), "{}", text(&output.stdout));
    assert!(said(&output).contains("findings; `manifest-lint --list` explains the rules"));
}

#[test]
fn nothing_found_ends_it_with_zero() {
    let folder = tempfile::tempdir().unwrap();
    let output = lint(&["--folder", folder.path().to_str().unwrap()]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), String::new()));
}

#[test]
fn every_rule_is_listed() {
    let output = lint(&["--list"]).output().unwrap();
    assert!(output.status.success());
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn a_missing_kubectl_is_named_with_its_remedy() {
    let output = lint(&["--overlay", "."]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("kubectl cannot be started"), "{}", said(&output));
    assert!(said(&output).contains("install it"), "{}", said(&output));
}

#[test]
fn a_folder_that_is_no_overlay_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let output = lint(&["--overlay", empty.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("unable to find one of 'kustomization.yaml'"), "{}", said(&output));
}

#[test]
fn an_old_kubectl_is_named_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("kubectl");
    std::fs::write(&old, "#!/bin/sh\necho 'Client Version: v1.26.0'\necho 'Kustomize Version: v4.5.7'\n")
        .unwrap();
    make_executable(&old);
    let output = lint(&["--overlay", "."]).env("PATH", folder.path()).output().unwrap();
    assert!(said(&output).contains("Kustomize Version: v4.5.7 is too old"), "{}", said(&output));
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

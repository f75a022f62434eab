//! Models and configuration that can not be served: told at once, by name, with a status that scripts see.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{output, vlinders};

/// The built-in model as a folder, with one file changed; `None` leaves the file out.
fn damaged(folder: &Path, name: &str, change: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    for (file, bytes) in vlinders_demo::FILES {
        let bytes = if *file == name { change(bytes) } else { Some(bytes.to_vec()) };
        if let Some(bytes) = bytes {
            fs::write(folder.join(file), bytes).unwrap();
        }
    }
}

/// Both `check` and `serve` must refuse the folder, and say each of `parts`.
fn refused(folder: &Path, parts: &[&str]) {
    let path = folder.to_str().unwrap();
    for command in ["check", "serve"] {
        let mut command_line: Command = vlinders(folder);
        command_line.args([command, path, "--name", "broken-one"]);
        if command == "serve" {
            command_line.args(["--host", "127.0.0.1", "--port", "0"]);
        }
        let (output, out, err) = output(&mut command_line);
        assert_eq!(output.status.code(), Some(1), "{command}: {out}\n{err}");
        let told = format!("{out}\n{err}");
        for part in ["broken-one"].iter().chain(parts) {
            assert!(told.contains(part), "{command} does not say `{part}`:\n{told}");
        }
    }
}

#[test]
fn weights_cut_short() {
    let folder = tempfile::tempdir().unwrap();
    damaged(folder.path(), "model.safetensors", |bytes| Some(bytes[..bytes.len() / 2].to_vec()));
    refused(folder.path(), &["model.safetensors"]);
}

#[test]
fn weights_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    damaged(folder.path(), "model.safetensors", |_| {
        Some(b"not a checkpoint, just some text of no use".to_vec())
    });
    refused(folder.path(), &["model.safetensors"]);
}

#[test]
fn weights_of_another_shape() {
    let folder = tempfile::tempdir().unwrap();
    damaged(folder.path(), "config.json", |bytes| {
        let mut config: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        config["intermediate_size"] = serde_json::json!(7 * 16);
        Some(config.to_string().into_bytes())
    });
    refused(folder.path(), &["mlp"]);
}

#[test]
fn an_architecture_nobody_knows() {
    let folder = tempfile::tempdir().unwrap();
    damaged(folder.path(), "config.json", |bytes| {
        let mut config: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        config["architectures"] = serde_json::json!(["ButterflyForCausalLM"]);
        Some(config.to_string().into_bytes())
    });
    refused(folder.path(), &["ButterflyForCausalLM", "LlamaForCausalLM", "Qwen3ForCausalLM"]);
}

#[test]
fn files_that_are_missing_or_broken() {
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let folder = tempfile::tempdir().unwrap();
        damaged(folder.path(), file, |_| None);
        refused(folder.path(), &[file.split('.').next().unwrap()]);
    }
    let folder = tempfile::tempdir().unwrap();
    damaged(folder.path(), "tokenizer.json", |bytes| Some(bytes[..bytes.len() / 2].to_vec()));
    refused(folder.path(), &["tokenizer"]);
}

#[test]
fn a_configuration_with_a_mistake_names_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = "models:\n  - name: a\n    path: builtin:vlinders-demo\n    max_len: 5\n";
    fs::write(folder.path().join("models.yaml"), text).unwrap();
    for command in ["serve", "check"] {
        let (output, _, err) = output(vlinders(folder.path()).arg(command));
        assert_eq!(output.status.code(), Some(1));
        assert!(err.contains("models.yaml:4:") && err.contains("did you mean `max_model_len`?"), "{err}");
    }
}

#[test]
fn mistakes_of_file_environment_and_options_are_told_together() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("server.yaml"), "server: { port: 1 }\nlogging: { level: nonsense }\n")
        .unwrap();
    let mut command = vlinders(folder.path());
    let (output, _, err) =
        output(command.env("VLINDERS_DTYPE", "int3").args(["serve", "--max-model-len", "0"]));
    assert_eq!(output.status.code(), Some(1));
    for part in ["`--dtype`: `int3`", "`--max-model-len`: found 0", "server.yaml:2:"] {
        assert!(err.contains(part), "`{part}` is missing:\n{err}");
    }
}

//! A GGUF file of the built-in model is served like the model itself.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vlinders_testkit::{Dtype, GgufFile, GgufValue, RandomModel, Shape, gguf_floats};

use crate::process::{Server, output, vlinders};

/// What llama.cpp's converter makes of the built-in model.
fn demo() -> GgufFile {
    let assets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../demo/assets");
    let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::Bf16, shape, numbers);
    GgufFile::from_folder(&assets, &encode).unwrap()
}

fn check(folder: &Path, model: &str) -> (bool, Value) {
    let (output, out, _) = output(vlinders(folder).args(["check", model, "--json"]));
    (output.status.success(), serde_json::from_str::<Value>(&out).unwrap()[0].take())
}

#[test]
fn a_file_gives_the_answers_of_the_folder_that_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    demo().write(&folder.path().join("demo.gguf")).unwrap();
    let models = "models:\n  - { name: filed, path: demo.gguf }\n";
    std::fs::write(folder.path().join("models.yaml"), models).unwrap();
    let server = Server::start_in(folder, "ready");
    let mut chat = server.client("chat");
    let (output, out, err) =
        output(chat.args(["--model", "filed", "-m", "What is 47 + 38?", "--temperature", "0"]));
    assert!(output.status.success(), "{err}");
    assert_eq!(out, "47 + 38 = 85.\n");
}

#[test]
fn a_file_is_checked_before_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = demo();
    let path = folder.path().join("demo.gguf");
    file.write(&path).unwrap();
    let (ok, found) = check(folder.path(), "demo.gguf");
    assert!(ok, "{found}");
    assert_eq!(found["name"], "demo");
    assert_eq!(found["model"]["architecture"], "LlamaForCausalLM");
    assert_eq!(found["model"]["format"], "bfloat16");
    assert!(found["model"]["stored_bytes"]["BF16"].as_u64().unwrap() > 4_000_000);
    assert!(found["notes"].as_array().unwrap().is_empty(), "{found}");

    file.set("general.architecture", GgufValue::Text("mamba".to_owned()));
    file.write(&path).unwrap();
    let (ok, found) = check(folder.path(), "demo.gguf");
    assert!(!ok);
    let problem = found["problems"][0].as_str().unwrap();
    assert!(problem.contains("\"mamba\" is not supported; supported are llama"), "{problem}");
}

#[test]
fn a_file_of_experts_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let model = RandomModel { shape: Shape::mixtral_tiny(), dtype: Dtype::F32, seed: 1, shards: 1 };
    model.write(&source).unwrap();
    let encode = |_: &str, shape: &[usize], numbers: &[f32]| gguf_floats(Dtype::F16, shape, numbers);
    let mut file = GgufFile::from_folder(&source, &encode).unwrap();
    let path = folder.path().join("experts.gguf");
    file.write(&path).unwrap();
    let (ok, found) = check(folder.path(), "experts.gguf");
    assert!(ok, "{found}");
    assert_eq!(found["model"]["architecture"], "MixtralForCausalLM");
    assert!(found["model"]["unused_tensors"].as_array().unwrap().is_empty(), "{found}");

    file.set("llama.expert_count", GgufValue::U32(8));
    file.write(&path).unwrap();
    let (ok, found) = check(folder.path(), "experts.gguf");
    assert!(!ok);
    let problem = found["problems"][0].as_str().unwrap();
    assert!(problem.contains("has 4 experts, its metadata says that there are 8"), "{problem}");
}

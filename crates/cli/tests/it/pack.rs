//! A packed model is checked, served and answers as its source; what contradicts it is refused.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::process::{Server, output, vlinders};

fn pack(folder: &Path, out: &str, more: &[&str]) {
    let mut command = vlinders(folder);
    let (done, shown, err) = output(command.args(["pack", "builtin:vlinders-demo", out]).args(more));
    assert!(done.status.success(), "{shown}\n{err}");
    assert!(shown.contains(&format!("try it: vlinders serve {out}")), "{shown}");
}

#[test]
fn what_was_packed_is_checked_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    pack(folder.path(), "whole", &[]);
    pack(folder.path(), "small", &["--quantization", "q8"]);
    let (again, _, err) = output(vlinders(folder.path()).args(["pack", "builtin:vlinders-demo", "small"]));
    assert!(!again.status.success() && err.contains("small is not empty"), "{err}");
    let (again, _, err) = output(vlinders(folder.path()).args(["pack", "small", "twice"]));
    assert!(!again.status.success() && err.contains("small is packed already"), "{err}");

    for (model, format) in [("whole", "bfloat16"), ("small", "q8")] {
        let (checked, out, err) = output(vlinders(folder.path()).args(["check", model, "--json"]));
        assert!(checked.status.success(), "{out}\n{err}");
        let found: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(found[0]["model"]["format"], format);
        let stored = &found[0]["model"]["stored_bytes"][format!("packed {format}")];
        assert!(stored.as_u64().unwrap() > 2_000_000, "{found}");
        assert_eq!(found[0]["model"]["unused_tensors"], Value::Array(Vec::new()));
    }
    let config: Value =
        serde_json::from_slice(&fs::read(folder.path().join("small/config.json")).unwrap()).unwrap();
    assert_eq!(config["quantization_config"]["quant_method"], "vlinders-packed");

    let models = "models:\n  - { name: whole, path: whole }\n  - { name: small, path: small }\n";
    fs::write(folder.path().join("models.yaml"), models).unwrap();
    let server = Server::start_in(folder, "ready");
    for model in ["whole", "small"] {
        let mut chat = server.client("chat");
        let (done, out, err) =
            output(chat.args(["--model", model, "-m", "What is 47 + 38?", "--temperature", "0"]));
        assert!(done.status.success(), "{err}");
        assert_eq!(out, "47 + 38 = 85.\n");
    }
}

#[test]
fn settings_that_contradict_and_old_files_are_told_before_a_start() {
    let folder = tempfile::tempdir().unwrap();
    pack(folder.path(), "whole", &[]);
    let check = |more: &[&str]| {
        let (done, out, _) = output(vlinders(folder.path()).args(["check", "--json"]).args(more));
        assert!(!done.status.success());
        serde_json::from_str::<Value>(&out).unwrap()[0]["problems"].to_string()
    };
    let models = "models:\n  - { name: whole, path: whole, quantization: q8 }\n";
    fs::write(folder.path().join("models.yaml"), models).unwrap();
    let told = check(&[]);
    assert!(told.contains("is packed as bfloat16, and q8 was asked for: leave out"), "{told}");

    let file = folder.path().join("whole/packed.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let layout = br#""vlinders.layout":""#;
    let at = bytes.windows(layout.len()).position(|window| window == layout).unwrap() + layout.len();
    bytes[at] = b'0';
    fs::write(&file, bytes).unwrap();
    let told = check(&["whole"]);
    assert!(
        told.contains("written by another version") && told.contains("run `vlinders pack` again"),
        "{told}"
    );
}

//! A model that was stored quantised is served as it is.

use serde_json::Value;

use crate::process::{Server, output, vlinders};

#[test]
fn what_was_quantised_is_checked_and_answers() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = vlinders(folder.path());
    let (done, out, err) =
        output(command.args(["quantize", "builtin:vlinders-demo", "small", "--format", "q8"]));
    assert!(done.status.success(), "{out}\n{err}");
    let (again, _, err) = output(&mut command);
    assert!(!again.status.success() && err.contains("small is not empty"), "{err}");

    let (checked, out, err) = output(vlinders(folder.path()).args(["check", "small", "--json"]));
    assert!(checked.status.success(), "{out}\n{err}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found[0]["model"]["format"], "q8");
    assert!(found[0]["model"]["stored_bytes"]["Q8_0"].as_u64().unwrap() > 2_000_000, "{found}");

    std::fs::write(folder.path().join("models.yaml"), "models:\n  - { name: small, path: small }\n").unwrap();
    let server = Server::start_in(folder, "ready");
    let mut chat = server.client("chat");
    let (done, out, err) =
        output(chat.args(["--model", "small", "-m", "What is 47 + 38?", "--temperature", "0"]));
    assert!(done.status.success(), "{err}");
    assert_eq!(out, "47 + 38 = 85.\n");
}

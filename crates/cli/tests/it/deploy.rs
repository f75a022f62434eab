//! `deploy render` and `health` as a pipeline and an image use them.

use crate::process::{Server, output, vlinders};

const MODELS: &str = "
models:
  - { name: a, path: /models/a, device: cuda, deploy: { memory: 9Gi, replicas: { min: 0, max: 2 } } }
  - { name: demo, path: builtin:vlinders-demo }
";

#[test]
fn rendering_twice_changes_nothing_and_checking_names_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models.yaml");
    std::fs::write(&models, MODELS).unwrap();
    let render = |more: &[&str]| {
        let args = ["deploy", "render", "--models", "models.yaml", "--out", "out"];
        output(vlinders(folder.path()).args(args).args(more))
    };
    let (checked, out, err) = render(&["--check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        out.contains("missing: a.scaledobject.yaml\n") && out.contains("missing: kustomization.yaml\n"),
        "{out}"
    );
    assert!(err.contains("refresh it: vlinders deploy render --models models.yaml --out out\n"), "{err}");
    assert!(!folder.path().join("out").exists(), "checking writes nothing");

    let (written, out, err) = render(&[]);
    assert!(written.status.success() && out.contains("4 files written, 0 unchanged"), "{out}{err}");
    assert!(render(&[]).1.contains("0 files written, 4 unchanged"));
    assert!(render(&["--check"]).0.status.success());

    // Where nothing scales there are other files, and a model less has no file.
    let (checked, out, _) = render(&["--check", "--autoscaler", "none"]);
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(out, "stale: a.yaml\nstale: kustomization.yaml\nsurplus: a.scaledobject.yaml\n");
    std::fs::write(&models, "models:\n  - { name: demo, path: builtin:vlinders-demo }\n").unwrap();
    let (_, out, _) = render(&[]);
    assert!(out.contains("removed a.yaml\n") && out.contains("removed a.scaledobject.yaml\n"), "{out}");
    let left = std::fs::read_dir(folder.path().join("out")).unwrap().count();
    assert_eq!(left, 2);
}

#[test]
fn pods_have_the_time_that_their_server_promises() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("models.yaml"), MODELS).unwrap();
    let server = folder.path().join("server.yaml");
    std::fs::write(&server, "shutdown: { delay: 7s, grace: 3m }\n").unwrap();
    let args = ["deploy", "render", "--models", "models.yaml", "--out", "out", "--server", "server.yaml"];
    let (done, _, err) = output(vlinders(folder.path()).args(args));
    assert!(done.status.success(), "{err}");
    let text = std::fs::read_to_string(folder.path().join("out/a.yaml")).unwrap();
    assert!(text.contains("terminationGracePeriodSeconds: 207\n"), "{text}");
    std::fs::write(&server, "server: { port: 9000 }\n").unwrap();
    let (failed, _, err) = output(vlinders(folder.path()).args(args));
    assert!(!failed.status.success() && err.contains("`server.port` is 9000"), "{err}");
}

#[test]
fn health_says_by_its_status_whether_a_server_is_well() {
    let server = Server::start();
    for more in [&[][..], &["--ready"]] {
        let mut command = vlinders(server.folder());
        let (done, out, err) = output(command.args(["health", "--url", &server.url]).args(more));
        assert!(done.status.success() && out.is_empty() && err.is_empty(), "{out}{err}");
    }
    let url = server.url.clone();
    drop(server);
    let folder = tempfile::tempdir().unwrap();
    let (failed, _, err) = output(vlinders(folder.path()).args(["health", "--url", &url]));
    assert!(failed.status.code() == Some(1) && err.contains("cannot reach"), "{err}");
}

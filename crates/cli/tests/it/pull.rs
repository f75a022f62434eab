//! `pull` as a loader runs it: with a models.yaml, beside another one, and killed in the middle.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};
use sha2::Digest as _;

use crate::process::{output, vlinders};

/// Bytes of the weights after which the server says nothing more, the first time.
const SILENT_AFTER: usize = 3 << 20;
const WEIGHTS: &str = "model.safetensors";

/// Requests for content, by name.
type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// The built-in model in a folder of a web server, as an old file system would hold it.
struct Folder {
    url: String,
    seen: Seen,
    _runtime: tokio::runtime::Runtime,
}

impl Folder {
    fn start() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/m", listener.local_addr().unwrap());
        let seen = Seen::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { url, seen, _runtime: runtime }
    }

    fn asked_for(&self, name: &str) -> Vec<HeaderMap> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(path, _)| path.ends_with(name)).map(|(_, headers)| headers.clone()).collect()
    }
}

async fn answer(
    State(seen): State<Seen>,
    method: axum::http::Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let name = uri.path().trim_start_matches("/m/").to_owned();
    let sums = || vlinders_demo::FILES.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
    let content = match name.as_str() {
        "SHA256SUMS" => sums().collect::<String>().into_bytes(),
        name => match vlinders_demo::file(name) {
            Some(content) => content.to_vec(),
            None => return StatusCode::NOT_FOUND.into_response(),
        },
    };
    if method == axum::http::Method::HEAD {
        return [(header::CONTENT_LENGTH, content.len())].into_response();
    }
    let is_first = !seen.lock().unwrap().iter().any(|(path, _)| *path == name);
    seen.lock().unwrap().push((name.clone(), headers.clone()));
    let total = content.len();
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let first: usize =
        range.as_ref().map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
    let bytes = Bytes::from(content).slice(first..);
    let mut response = Response::builder().header(header::CONTENT_LENGTH, bytes.len());
    if range.is_some() {
        let part = format!("bytes {first}-{}/{total}", total - 1);
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, part);
    }
    let body = if name == WEIGHTS && is_first {
        let begin = stream::iter([Ok::<_, std::io::Error>(bytes.slice(..SILENT_AFTER))]);
        Body::from_stream(begin.chain(stream::pending()))
    } else {
        Body::from(bytes)
    };
    response.body(body).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn models_yaml(folder: &Path, text: &str) {
    std::fs::write(folder.join("models.yaml"), text).unwrap();
}

/// A folder with a models.yaml that has one model with this source.
fn with_source(source: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = format!(
        "  - name: butterflies\n    path: /models/butterflies\n    deploy: {{ source: '{source}' }}\n"
    );
    models_yaml(folder.path(), &format!("models:\n{model}"));
    folder
}

fn pull(folder: &Path) -> Command {
    let mut command = vlinders(folder);
    for name in ["HF_TOKEN", "HF_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"]
    {
        command.env_remove(name);
    }
    command.args(["pull", "--dest", "volume"]);
    command
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes of the weights that are on disk, and not yet a file of the model.
fn begun(folder: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(folder.join("volume/butterflies/.vlinders-pull.files")) else {
        return 0;
    };
    let files = files.map(Result::unwrap);
    let weights = files.filter(|file| {
        let name = file.file_name().into_string().unwrap();
        name.starts_with(WEIGHTS) && name.ends_with(".partial")
    });
    weights.map(|file| file.metadata().unwrap().len()).sum()
}

fn visible(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder.join("volume/butterflies")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_loader_that_is_killed_in_the_middle_leaves_nothing_half_and_the_next_one_goes_on() {
    let server = Folder::start();
    let folder = with_source(&server.url);
    let mut first = Killed(pull(folder.path()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    wait_until("nothing was begun", || begun(folder.path()) >= 2 << 20);
    // SIGKILL.
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let there = begun(folder.path());
    assert!(visible(folder.path()).is_empty(), "{:?}", visible(folder.path()));

    let (second, out, err) = output(&mut pull(folder.path()));
    assert!(second.status.success(), "{err}");
    assert!(out.contains("6 files"), "{out}");
    assert!(err.contains(&format!("{WEIGHTS} goes on at")), "{err}");
    let asked = server.asked_for(WEIGHTS);
    assert_eq!(asked[1][header::RANGE], format!("bytes={there}-"));
    for name in visible(folder.path()) {
        let content = std::fs::read(folder.path().join("volume/butterflies").join(&name)).unwrap();
        assert!(content == vlinders_demo::file(&name).unwrap(), "{name} differs");
    }

    let requests = server.seen.lock().unwrap().len();
    let (third, out, err) = output(&mut pull(folder.path()));
    assert!(third.status.success() && out.contains("0 of them were fetched now"), "{out}{err}");
    assert_eq!(server.seen.lock().unwrap().len(), requests + 1, "only the listing");

    // What was fetched is a model: a server takes it.
    let mut check = vlinders(folder.path());
    let (checked, out, err) = output(check.args(["check", "volume/butterflies"]));
    assert!(checked.status.success(), "{out}{err}");
}

/// As Kubernetes ends a loader.
#[test]
fn a_signal_stops_it_and_says_that_nothing_is_lost() {
    let server = Folder::start();
    let folder = with_source(&server.url);
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut first = Killed(pull(folder.path()).stderr(file).stdout(Stdio::null()).spawn().unwrap());
    wait_until("nothing was begun", || begun(folder.path()) >= 2 << 20);
    let pid = first.0.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert_eq!(first.0.wait().unwrap().code(), Some(1));
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("stopped by SIGTERM; what was fetched is kept"), "{told}");
    assert!(begun(folder.path()) >= 2 << 20);
    assert!(output(&mut pull(folder.path())).0.status.success());
}

#[test]
fn two_loaders_on_one_volume_wait_for_each_other() {
    let server = Folder::start();
    let folder = with_source(&server.url);
    let mut first = Killed(pull(folder.path()).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
    wait_until("nothing was begun", || begun(folder.path()) >= 2 << 20);
    let log = folder.path().join("second.log");
    let file = std::fs::File::create(&log).unwrap();
    let mut second = Killed(pull(folder.path()).stderr(file).stdout(Stdio::null()).spawn().unwrap());
    let told = || std::fs::read_to_string(&log).unwrap();
    wait_until("the second one did not wait", || told().contains("another loader is at work"));
    assert_eq!(server.asked_for(WEIGHTS).len(), 1);
    // The system gives the lock of a dead process to whoever waits.
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    assert!(second.0.wait().unwrap().success(), "{}", told());
    assert_eq!(server.asked_for(WEIGHTS).len(), 2);
}

#[test]
fn what_can_not_be_fetched_is_told_with_a_remedy_and_without_secrets() {
    let server = Folder::start();
    let folder = with_source(&format!("{}/nowhere", server.url));
    let (failed, _, err) = output(&mut pull(folder.path()));
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        err.contains("butterflies: ") && err.contains("answered 404") && err.contains("sha256sum"),
        "{err}"
    );
    assert!(err.contains("1 of 1 models are not there"), "{err}");

    let folder = with_source("hf://org/demo");
    std::fs::write(folder.path().join("token"), "hf_secret\n").unwrap();
    let mut command = pull(folder.path());
    let (failed, out, err) =
        output(command.args(["--hf-token-file", "token", "--hf-endpoint", "http://hub.example"]));
    assert_eq!(failed.status.code(), Some(1));
    assert!(err.contains("is not encrypted, so no token is sent there"), "{err}");
    assert!(!err.contains("hf_secret") && !out.contains("hf_secret"));

    let mut command = pull(folder.path());
    let (failed, _, err) = output(command.env("AWS_ACCESS_KEY_ID", "AKIA"));
    assert!(failed.status.code() == Some(1) && err.contains("set both"), "{err}");
    let (failed, _, _) = output(pull(folder.path()).arg("--connections=0"));
    assert_eq!(failed.status.code(), Some(2));
}

/// The token of a mounted secret is used, and only where it belongs.
#[test]
fn secrets_come_from_a_folder_that_need_not_have_all() {
    let server = Folder::start();
    let folder = with_source("hf://org/demo@main");
    std::fs::create_dir(folder.path().join("secrets")).unwrap();
    std::fs::write(folder.path().join("secrets/hf-token"), "hf_secret\n").unwrap();
    let hub = server.url.trim_end_matches("/m");
    let mut command = pull(folder.path());
    let (failed, _, err) = output(command.args(["--secrets", "secrets", "--hf-endpoint", hub]));
    assert!(failed.status.code() == Some(1) && err.contains("the hub has no such repository"), "{err}");
    assert!(!err.contains("hf_secret"), "{err}");
}

#[test]
fn without_sources_there_is_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    models_yaml(folder.path(), "models:\n  - { name: demo, path: builtin:vlinders-demo }\n");
    let (done, out, err) = output(&mut pull(folder.path()));
    assert!(done.status.success() && out.contains("nothing to fetch"), "{out}{err}");
}

//! A head and its workers as processes: what a user sees, and that a rolling restart loses nothing.

mod traffic;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use serde_json::{Value, json};

use self::traffic::Traffic;
use crate::process::{Server, http, output, vlinders};

async fn chat(server: &Server, text: &str) -> (u16, Value) {
    let body = json!({ "model": vlinders_demo::MODEL_NAME, "messages": [{ "role": "user", "content": text }], "temperature": 0 });
    let response =
        http().post(format!("{}/v1/chat/completions", server.url)).json(&body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn an_answer_through_a_head_is_that_of_the_worker() {
    let worker = Server::start();
    let folder = tempfile::tempdir().unwrap();
    // The files of the model need not be where the head is.
    let models = folder.path().join("models.yaml");
    let name = vlinders_demo::MODEL_NAME;
    let text = format!(
        "models:\n  - {{ name: {name}, path: /not/here, aliases: [demo], max_model_len: 99 }}\n  - {{ name: later, path: /nor/here }}\n"
    );
    std::fs::write(&models, text).unwrap();
    let head = Server::start_head(&["--models", models.to_str().unwrap(), "--worker", worker.address()]);
    let (status, through) = chat(&head, "What is 47 + 38?").await;
    let (_, direct) = chat(&worker, "What is 47 + 38?").await;
    assert_eq!(status, 200, "{through}");
    assert_eq!(through["choices"], direct["choices"]);
    assert_eq!(through["system_fingerprint"], direct["system_fingerprint"]);
    let list: Value =
        http().get(format!("{}/v1/models", head.url)).send().await.unwrap().json().await.unwrap();
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [name, "demo", "later"]);
    assert_eq!(list["data"][0]["max_model_len"], 99);
}

#[test]
fn a_head_that_is_not_told_where_workers_are_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (done, _, err) = output(vlinders(folder.path()).arg("head"));
    assert_eq!(done.status.code(), Some(1));
    assert!(err.contains("nothing says where workers are") && err.contains("--worker HOST:PORT"), "{err}");
    let (done, _, err) = output(vlinders(folder.path()).args(["head", "--worker", "http://a"]));
    assert_eq!(done.status.code(), Some(1));
    assert!(err.contains("`--worker`: found `http://a`") && err.contains("without http://"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_consumers_used_is_reported() {
    let worker = Server::start();
    let database = vlinders_testkit::Postgres::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    write("keys", "blue sk-blue\nred sk-red\n");
    write("url", &database.url());
    let settings = write(
        "server.yaml",
        "auth: { api_key_file: keys }\nledger: { database_url_file: url, spool: spool }\n\
         rate_limits: { consumers: { red: { requests_per_minute: 1 } } }\n",
    );
    let head =
        Server::start_head(&["--server", &settings, "--worker", worker.address(), "--shutdown-delay", "0s"]);
    let ask = async |key: &str| {
        let body = json!({ "model": vlinders_demo::MODEL_NAME, "prompt": "butterflies", "max_tokens": 4, "ignore_eos": true });
        let asked = http().post(format!("{}/v1/completions", head.url)).json(&body).bearer_auth(key);
        asked.send().await.unwrap().status().as_u16()
    };
    assert_eq!(
        [ask("sk-blue").await, ask("sk-blue").await, ask("sk-red").await, ask("sk-red").await],
        [200, 200, 200, 429]
    );
    assert_eq!(ask("sk-green").await, 401);
    head.signal("TERM");
    let (status, log) = tokio::task::spawn_blocking(move || head.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:?}");
    let told = log.join("\n");
    assert!(!told.contains(database.password()) && !told.contains("sk-"), "{told}");

    let report = |args: &[&str]| {
        let command = &mut vlinders(folder.path());
        let (done, out, err) = output(command.arg("usage").args(args));
        assert_eq!(done.status.code(), Some(0), "{err}");
        out
    };
    let rows: Value = serde_json::from_str(&report(&["--by", "consumer", "--format", "json"])).unwrap();
    let counted = |row: &Value| {
        let number = |name: &str| row[name].as_u64().unwrap();
        (
            row["consumer"].as_str().unwrap().to_owned(),
            number("requests"),
            number("refused"),
            number("completion_tokens"),
        )
    };
    let rows: Vec<_> = rows.as_array().unwrap().iter().map(counted).collect();
    assert_eq!(rows, [("blue".to_owned(), 2, 0, 8), ("red".to_owned(), 2, 1, 4)]);
    let csv = report(&["--format", "csv", "--consumer", "red"]);
    assert_eq!(csv.lines().count(), 2, "{csv}");
    assert!(csv.lines().nth(1).unwrap().contains(",red,vlinders-demo,2,"), "{csv}");
    assert!(report(&[]).contains("vlinders-demo"));
    assert!(!report(&["--to", "2001-01-01"]).contains("vlinders-demo"));
}

/// Make a key pair with openssl, as an operator does.
fn key_pair(folder: &Path) {
    for words in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out private.pem",
        "pkey -in private.pem -pubout -out public.pem",
    ] {
        let mut command = Command::new("openssl");
        let done = command.args(words.split(' ')).current_dir(folder).stderr(Stdio::null()).status();
        assert!(done.unwrap().success());
    }
}

/// A token with these claims, signed with the private key.
fn token(folder: &Path, claims: &Value) -> String {
    let encode = |text: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "alg": "RS256", "typ": "JWT" });
    let signed =
        format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    std::fs::write(folder.join("signed"), &signed).unwrap();
    let mut command = Command::new("openssl");
    let words = "dgst -sha256 -sign private.pem signed";
    let signature = command.args(words.split(' ')).current_dir(folder).output().unwrap().stdout;
    format!("{signed}.{}", encode(&signature))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_and_a_gateway_are_believed_for_what_they_prove() {
    let worker = Server::start();
    let folder = tempfile::tempdir().unwrap();
    key_pair(folder.path());
    let settings = folder.path().join("server.yaml");
    std::fs::write(folder.path().join("secret"), "a-secret-of-the-gateway").unwrap();
    let text = "auth: { jwt: { public_key_file: public.pem, audiences: [vlinders] }, gateway: { secret_file: secret } }\n";
    std::fs::write(&settings, text).unwrap();
    let head = Server::start_head(&["--server", settings.to_str().unwrap(), "--worker", worker.address()]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ask = async |headers: &[(&str, &str)]| {
        let asked = http().get(format!("{}/v1/models", head.url));
        let asked = headers.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value));
        let answer = asked.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let with = async |claims: Value| {
        let bearer = format!("Bearer {}", token(folder.path(), &claims));
        ask(&[("authorization", &bearer)]).await
    };
    let valid = json!({ "sub": "blue", "aud": "vlinders", "exp": now + 600 });
    assert_eq!(with(valid.clone()).await.0, 200);
    let other = |name: &str, value: Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        claims
    };
    assert_eq!(with(other("exp", json!(now - 600))).await, (401, "token_expired".to_owned()));
    assert_eq!(with(other("aud", json!("elsewhere"))).await, (401, "invalid_audience".to_owned()));
    let (secret, name) = (("x-internal-secret", "a-secret-of-the-gateway"), ("x-consumer-username", "red"));
    assert_eq!(ask(&[secret, name]).await.0, 200);
    assert_eq!(ask(&[("x-internal-secret", "guessed"), name]).await, (401, "untrusted_gateway".to_owned()));
    assert_eq!(ask(&[]).await, (401, "missing_api_key".to_owned()));
}

#[test]
fn a_server_alone_does_not_pretend_to_check_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let text = "auth: { jwt: { public_key_file: key.pem, audiences: [a] } }\n";
    std::fs::write(folder.path().join("server.yaml"), text).unwrap();
    let (done, _, err) = output(vlinders(folder.path()).args(["serve", "--port", "0"]));
    assert_eq!(done.status.code(), Some(1));
    assert!(err.contains("`auth.jwt`") && err.contains("vlinders head"), "{err}");
}

/// 200 clients never stop asking while every worker, and then a head, is ended and replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_request() {
    const CLIENTS: usize = 200;
    let grace = ["--shutdown-grace", "5m"];
    let mut workers: Vec<_> = (0..3).map(|_| Server::start_at(0, &grace)).collect();
    let ports: Vec<u16> =
        workers.iter().map(|worker| worker.address().rsplit_once(':').unwrap().1.parse().unwrap()).collect();
    let list = workers.iter().map(Server::address).collect::<Vec<_>>().join(",");
    let head_args = ["--worker", &*list, "--shutdown-delay", "2s", "--shutdown-grace", "5m"];
    let mut heads = vec![Server::start_head(&head_args), Server::start_head(&head_args)];
    let traffic = Traffic::start(CLIENTS, heads.iter().map(|head| head.url.clone()).collect());
    traffic.until_answered(CLIENTS).await;

    for (number, port) in ports.iter().enumerate() {
        let old = workers.remove(0);
        old.signal("TERM");
        let (status, log) = tokio::task::spawn_blocking(move || old.wait()).await.unwrap();
        assert_eq!(status.code(), Some(0), "worker {number}: {log:?}");
        let before = traffic.answered();
        let port = *port;
        let new = tokio::task::spawn_blocking(move || Server::start_at(port, &grace)).await.unwrap();
        workers.push(new);
        // Everybody asked at least once more while it was gone or new.
        traffic.until_answered(before + CLIENTS).await;
    }

    let old = heads.remove(0);
    old.signal("TERM");
    let (status, log) = tokio::task::spawn_blocking(move || old.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0), "{log:?}");
    let new = Server::start_head(&head_args);
    traffic.offer(new.url.clone());
    let before = traffic.answered();
    traffic.until_answered(before + CLIENTS).await;

    let (answered, lost) = traffic.stop().await;
    println!("{answered} streams of {CLIENTS} clients were answered");
    assert!(
        lost.is_empty(),
        "{} of {} were lost, the first: {:?}",
        lost.len(),
        answered + lost.len(),
        lost.first()
    );
    assert!(answered >= 5 * CLIENTS);
}

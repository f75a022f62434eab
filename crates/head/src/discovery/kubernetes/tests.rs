//! Against a small API server over HTTP that lists and streams what a test tells it.

use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;

/// The API server: answers lists, and streams one event after the other to watches.
#[derive(Clone)]
struct ApiServer {
    list: Arc<Mutex<Value>>,
    events: Arc<tokio::sync::Mutex<mpsc::Receiver<Value>>>,
    /// Ends the watch that runs.
    cut: Arc<Mutex<CancellationToken>>,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn answer(State(server): State<ApiServer>, Query(query): Query<BTreeMap<String, String>>) -> Body {
    server.asked.lock().unwrap().push(query.get("labelSelector").cloned().unwrap_or_default());
    if query.get("watch").is_none_or(|watch| watch != "true") {
        return Body::from(server.list.lock().unwrap().to_string());
    }
    let cut = server.cut.lock().unwrap().clone();
    let lines = futures::stream::unfold(server, move |server| {
        let cut = cut.clone();
        async move {
            let mut events = server.events.lock().await;
            let event = tokio::select! {
                event = events.recv() => event?,
                () = cut.cancelled() => return None,
            };
            drop(events);
            Some((Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n"))), server))
        }
    });
    Body::from_stream(lines)
}

fn slice(name: &str, endpoints: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "namespace": "vlinders", "resourceVersion": "2",
                      "labels": { "kubernetes.io/service-name": "workers" } },
        "ports": [{ "name": "metrics", "port": 9 }, { "name": "http", "port": 8000 }],
        "endpoints": endpoints,
    })
}

fn endpoint(address: &str, ready: Option<bool>, serving: bool, terminating: bool) -> Value {
    json!({
        "addresses": [address],
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
        "targetRef": { "kind": "Pod", "name": format!("pod-{address}") },
    })
}

fn list(slices: &[Value]) -> Value {
    json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList", "metadata": { "resourceVersion": "1" }, "items": slices })
}

fn shown(targets: &[Target]) -> Vec<(String, Stage)> {
    targets.iter().map(|target| (target.address.clone(), target.stage)).collect()
}

fn expected(targets: &[(&str, Stage)]) -> Vec<(String, Stage)> {
    targets.iter().map(|(address, stage)| ((*address).to_owned(), *stage)).collect()
}

#[tokio::test]
async fn slices_are_listed_watched_and_listed_again() {
    let first = slice(
        "a",
        &json!([
            endpoint("10.0.0.1", Some(true), true, false),
            endpoint("10.0.0.2", Some(false), false, false)
        ]),
    );
    let (tell, events) = mpsc::channel(8);
    let server = ApiServer {
        list: Arc::new(Mutex::new(list(std::slice::from_ref(&first)))),
        events: Arc::new(tokio::sync::Mutex::new(events)),
        cut: Arc::default(),
        asked: Arc::default(),
    };
    let path = "/apis/discovery.k8s.io/v1/namespaces/vlinders/endpointslices";
    let router = Router::new().route(path, get(answer)).with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let pool = Arc::new(Pool { name: "k8s".into(), weight: 1 });
    let services = ["workers".to_owned()];
    let port = ServicePort::Name("http".into());
    let discovery = KubernetesDiscovery::new(client, pool, Some("vlinders"), &services, port);
    let (found, mut targets) = watch::channel(Vec::new());
    tokio::spawn(Box::new(discovery).run(found));
    let mut until = async |wanted: &[(&str, Stage)]| {
        let wanted = expected(wanted);
        let wait = targets.wait_for(|targets| shown(targets) == wanted);
        let known = tokio::time::timeout(Duration::from_secs(20), wait).await;
        known.unwrap_or_else(|_| panic!("never came: {wanted:?}")).unwrap().clone()
    };

    let known = until(&[("10.0.0.1:8000", Stage::Ready), ("10.0.0.2:8000", Stage::NotReady)]).await;
    assert_eq!(known[0].name.as_deref(), Some("pod-10.0.0.1"));

    // The second becomes ready, the first is being ended and serves what it has; a third comes in a slice of its own.
    let event = |kind: &str, object: &Value| json!({ "type": kind, "object": object });
    let changed = slice(
        "a",
        &json!([endpoint("10.0.0.1", Some(false), true, true), endpoint("10.0.0.2", None, true, false)]),
    );
    tell.send(event("MODIFIED", &changed)).await.unwrap();
    until(&[("10.0.0.1:8000", Stage::Terminating), ("10.0.0.2:8000", Stage::Ready)]).await;
    let second = slice("b", &json!([endpoint("10.0.0.3", Some(true), true, false)]));
    tell.send(event("ADDED", &second)).await.unwrap();
    until(&[
        ("10.0.0.1:8000", Stage::Terminating),
        ("10.0.0.2:8000", Stage::Ready),
        ("10.0.0.3:8000", Stage::Ready),
    ])
    .await;
    tell.send(event("DELETED", &changed)).await.unwrap();
    until(&[("10.0.0.3:8000", Stage::Ready)]).await;

    // The version it knows is too old: it lists again, and keeps what it knows until the list is there.
    *server.list.lock().unwrap() = list(&[first]);
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410 });
    tell.send(event("ERROR", &gone)).await.unwrap();
    until(&[("10.0.0.1:8000", Stage::Ready), ("10.0.0.2:8000", Stage::NotReady)]).await;

    // A watch that breaks is begun anew.
    std::mem::take(&mut *server.cut.lock().unwrap()).cancel();
    tell.send(event("ADDED", &second)).await.unwrap();
    until(&[
        ("10.0.0.1:8000", Stage::Ready),
        ("10.0.0.2:8000", Stage::NotReady),
        ("10.0.0.3:8000", Stage::Ready),
    ])
    .await;
    let asked = server.asked.lock().unwrap();
    assert!(
        asked.len() >= 3
            && asked.iter().all(|selector| selector == "kubernetes.io/service-name in (workers)"),
        "{asked:?}"
    );
}

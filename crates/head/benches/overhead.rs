//! What a head adds to a request: directly to a mock worker, through the head, and through nginx, in turn.
//!
//!     cargo bench -p vlinders-head --bench overhead                # a table: latency at 1, 64 and 1,000 streams, requests/s
//!     cargo bench -p vlinders-head --bench overhead -- --soak 10   # ten minutes with 1,000 streams: memory of the head
//!
//! Worker, head and nginx are processes of their own; client and worker take processor time too, and the more the fewer
//! cores there are, so differences to the direct connection count, not the numbers alone.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use vlinders_api::{ModelCondition, ModelState, WorkerState};
use vlinders_head::{FixedDiscovery, Head, HeadConfig, HeadMetrics, HeadParts, Pool};

/// Events of a stream, the first of them at once.
const EVENTS: usize = 4;

/// Streams that run at the same time, and the milliseconds between two events of one: some hundred streams begin each
/// second, or 1,300 with a thousand.
const LOADS: [(usize, u64); 3] = [(1, 3), (64, 50), (1000, 250)];

const ROUNDS: usize = 5;

/// Each round of a way lasts this long.
const ROUND: Duration = Duration::from_secs(3);

const EVENT: &str = "data: {\"id\":\"chatcmpl-0\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n: usage 20 0 1\n\n";

type Http = Client<HttpConnector, Full<Bytes>>;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker", port] => runtime(2).block_on(worker(port)),
        ["head", port, worker] => runtime(2).block_on(head(port, worker)),
        ["--soak", minutes] => soak(minutes.parse().expect("minutes")),
        [] => compare(),
        other => eprintln!("unknown arguments {other:?}; see the first lines of benches/overhead.rs"),
    }
}

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime")
}

// === the processes ===

async fn worker(port: &str) {
    let router = Router::new()
        .route(
            "/state",
            get(async || {
                let model = ModelState {
                    name: "m".to_owned(),
                    condition: ModelCondition::Ready,
                    kv_tokens: 1 << 20,
                    ..ModelState::default()
                };
                axum::Json(WorkerState { open: true, models: vec![model], ..WorkerState::default() })
            }),
        )
        .route("/v1/chat/completions", post(answer));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
    let _serving = vlinders_edge::Connections::serve(listener, router, HeadConfig::default().connections);
    std::future::pending::<()>().await;
}

async fn answer(request: Request) -> Response {
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("a request");
    let distance = Duration::from_millis(body["max_tokens"].as_u64().unwrap_or(0));
    if distance.is_zero() {
        return (
            [("content-type", "application/json"), ("x-vlinders-usage", "usage 20 0 1")],
            "{\"choices\":[]}",
        )
            .into_response();
    }
    let events = futures::stream::unfold(0, move |sent| async move {
        match sent {
            0 => {}
            EVENTS => return Some((Ok(Bytes::from_static(b"data: [DONE]\n\n")), EVENTS + 1)),
            number if number > EVENTS => return None,
            _ => tokio::time::sleep(distance).await,
        }
        Some((Ok::<_, std::io::Error>(Bytes::from_static(EVENT.as_bytes())), sent + 1))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
}

async fn head(port: &str, worker: &str) {
    let pool = Arc::new(Pool { name: "p".to_owned(), weight: 1 });
    let workers = FixedDiscovery { pool, addresses: vec![worker.to_owned()] };
    let parts = HeadParts { workers: vec![Box::new(workers)], ..HeadParts::default() };
    let head = Head::new(HeadConfig::default(), parts, Arc::new(HeadMetrics::new())).expect("a head");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a port");
    vlinders_head::serve(listener, head, std::future::pending()).await;
}

/// A process that ends with the value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // nginx ends its own processes when it is asked to end.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn this(words: &[&str]) -> Process {
    let program = std::env::current_exe().expect("this program");
    Process(Command::new(program).args(words).spawn().expect("a process"))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// nginx as a plain reverse proxy, without buffering and with open connections to the worker.
fn nginx(port: u16, worker: u16, folder: &std::path::Path) -> Option<Process> {
    let config = format!(
        "daemon off; pid {0}/pid; error_log {0}/error.log; worker_processes 2;\n\
         events {{ worker_connections 8192; }}\n\
         http {{ access_log off; client_body_temp_path {0}/body; proxy_temp_path {0}/proxy; fastcgi_temp_path {0}/f; \
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s; keepalive_requests 1000000;\n\
         upstream worker {{ server 127.0.0.1:{worker}; keepalive 2048; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://worker; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_buffering off; }} }} }}\n",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config).ok()?;
    let program = ["nginx", "/usr/sbin/nginx"].into_iter().find(|program| {
        Command::new(program).arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })?;
    Some(Process(Command::new(program).arg("-c").arg(file).stderr(Stdio::null()).spawn().ok()?))
}

// === the client ===

fn client() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// With a distance between events, the answer is a stream.
fn request(port: u16, distance: u64, number: usize) -> http::Request<Full<Bytes>> {
    let body = format!(
        "{{\"model\":\"m\",\"max_tokens\":{distance},\"messages\":[{{\"role\":\"user\",\"content\":\"{number} {}\"}}]}}",
        "a few words ".repeat(40)
    );
    http::Request::post(format!("http://127.0.0.1:{port}/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("a request")
}

/// Seconds to the first event of each stream that began within a round.
async fn streams(http: &Http, port: u16, (count, distance): (usize, u64)) -> Vec<f64> {
    let end = Instant::now() + ROUND;
    let tasks: Vec<_> = (0..count)
        .map(|client| {
            let http = http.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                // Clients begin one after the other, so that they do not come in step.
                let spread = Duration::from_millis(EVENTS as u64 * distance);
                tokio::time::sleep(spread * client as u32 / count as u32).await;
                while Instant::now() < end {
                    let begun = Instant::now();
                    let mut response =
                        http.request(request(port, distance, client)).await.expect("an answer");
                    assert_eq!(response.status(), 200);
                    let first = response.body_mut().frame().await;
                    times.push(begun.elapsed().as_secs_f64());
                    assert!(first.is_some_and(|frame| frame.is_ok()));
                    while let Some(frame) = response.body_mut().frame().await {
                        frame.expect("the whole stream");
                    }
                }
                times
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("a client"));
    }
    all
}

/// Whole answers a second, with 64 clients that ask without a pause.
async fn rate(http: &Http, port: u16) -> f64 {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|client| {
            let http = http.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while begun.elapsed() < ROUND {
                    let response = http.request(request(port, 0, client)).await.expect("an answer");
                    assert_eq!(response.status(), 200);
                    response.into_body().collect().await.expect("a whole answer");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.expect("a client");
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

async fn until_ready(http: &Http, port: u16) {
    for _ in 0..500 {
        if http.request(request(port, 0, 0)).await.is_ok_and(|response| response.status() == 200) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("port {port} never answered");
    std::process::exit(1);
}

// === what is told ===

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let place = (values.len() as f64 * share) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}

fn compare() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports = [free_port(), free_port(), free_port()];
    let _worker = this(&["worker", &ports[0].to_string()]);
    let _head = this(&["head", &ports[1].to_string(), &format!("127.0.0.1:{}", ports[0])]);
    let nginx = nginx(ports[2], ports[0], folder.path());
    let mut ways = vec![("direct", ports[0]), ("head", ports[1])];
    match nginx {
        Some(_) => ways.push(("nginx", ports[2])),
        None => println!("nginx is not installed (Debian: apt-get install nginx-light); compared without it"),
    }
    runtime(2).block_on(async {
        let http = client();
        for (_, port) in &ways {
            until_ready(&http, *port).await;
        }
        println!(
            "{:>8} {:>8} {:>12} {:>12} {:>12} {:>12}",
            "streams", "way", "p50 us", "p99 us", "+p50 us", "+p99 us"
        );
        for load in LOADS {
            let count = load.0;
            let mut seen = vec![(Vec::new(), Vec::new()); ways.len()];
            for _ in 0..ROUNDS {
                for ((_, port), (p50, p99)) in ways.iter().zip(&mut seen) {
                    let mut times = streams(&http, *port, load).await;
                    p50.push(percentile(&mut times, 0.5) * 1e6);
                    p99.push(percentile(&mut times, 0.99) * 1e6);
                }
            }
            let rows: Vec<_> = seen.into_iter().map(|(p50, p99)| (median(p50), median(p99))).collect();
            for ((way, _), (p50, p99)) in ways.iter().zip(&rows) {
                let (more50, more99) = (p50 - rows[0].0, p99 - rows[0].1);
                println!("{count:>8} {way:>8} {p50:>12.0} {p99:>12.0} {more50:>12.0} {more99:>12.0}");
            }
        }
        println!("{:>8} {:>8} {:>12}", "clients", "way", "requests/s");
        let mut rates = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for ((_, port), rates) in ways.iter().zip(&mut rates) {
                rates.push(rate(&http, *port).await);
            }
        }
        for ((way, _), rates) in ways.iter().zip(rates) {
            println!("{:>8} {way:>8} {:>12.0}", 64, median(rates));
        }
    });
}

fn soak(minutes: u64) {
    let ports = [free_port(), free_port()];
    let _worker = this(&["worker", &ports[0].to_string()]);
    let head = this(&["head", &ports[1].to_string(), &format!("127.0.0.1:{}", ports[0])]);
    let pid = head.0.id();
    runtime(2).block_on(async {
        let http = client();
        until_ready(&http, ports[1]).await;
        let begun = Instant::now();
        println!("{:>8} {:>10} {:>12}", "seconds", "streams", "head MiB");
        let mut total = 0;
        while begun.elapsed() < Duration::from_secs(60 * minutes) {
            for _ in 0..5 {
                total += streams(&http, ports[1], LOADS[2]).await.len();
            }
            println!("{:>8} {total:>10} {:>12.1}", begun.elapsed().as_secs(), resident(pid));
        }
    });
}

/// Memory of a process in MiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1024.0
}

//! A head on a free port, and workers that are told what to do.

mod worker;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vlinders_head::{
    Discovery, FixedDiscovery, Head, HeadConfig, HeadMetrics, HeadParts, OfferedModel, Pool, Stickiness,
    serve,
};

pub(crate) use self::worker::{Act, MockWorker};

/// The model of the workers.
pub(crate) const MODEL: &str = "parrot";

/// A running head; it ends with the value.
pub(crate) struct TestHead {
    pub(crate) url: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<bool>>,
}

impl TestHead {
    /// In front of these workers, all of which it knows to be ready.
    pub(crate) async fn start(workers: &[&MockWorker]) -> Self {
        Self::with(workers, |_| {}).await
    }

    /// With another configuration.
    pub(crate) async fn with(workers: &[&MockWorker], change: impl FnOnce(&mut HeadConfig)) -> Self {
        let addresses = workers.iter().map(|worker| worker.address.clone()).collect();
        let head = Self::at(addresses, change).await;
        head.until_ready(workers.len()).await;
        head
    }

    /// In front of one worker, with other parts.
    pub(crate) async fn equipped(
        worker: &MockWorker,
        change: impl FnOnce(&mut HeadConfig),
        equip: impl FnOnce(&mut HeadParts, &HeadMetrics),
    ) -> Self {
        let pool = Arc::new(Pool { name: "test".into(), weight: 1 });
        let found = FixedDiscovery { pool, addresses: vec![worker.address.clone()] };
        let head = Self::of(vec![Box::new(found)], change, equip).await;
        head.until_ready(1).await;
        head
    }

    /// In front of these addresses, whoever is there.
    pub(crate) async fn at(addresses: Vec<String>, change: impl FnOnce(&mut HeadConfig)) -> Self {
        let pool = Arc::new(Pool { name: "test".into(), weight: 1 });
        Self::finding(vec![Box::new(FixedDiscovery { pool, addresses })], change).await
    }

    /// With these ways to find workers.
    pub(crate) async fn finding(
        workers: Vec<Box<dyn Discovery>>,
        change: impl FnOnce(&mut HeadConfig),
    ) -> Self {
        Self::of(workers, change, |_, _| {}).await
    }

    /// With other parts, too.
    pub(crate) async fn of(
        workers: Vec<Box<dyn Discovery>>,
        change: impl FnOnce(&mut HeadConfig),
        equip: impl FnOnce(&mut HeadParts, &HeadMetrics),
    ) -> Self {
        let mut config =
            HeadConfig { models: Some(vec![offer(MODEL, &["org/parrot-small"])]), ..HeadConfig::default() };
        config.health.interval = Duration::from_millis(50);
        config.shutdown_delay = Duration::ZERO;
        change(&mut config);
        let metrics = Arc::new(HeadMetrics::new());
        let mut parts = HeadParts { workers, ..HeadParts::default() };
        equip(&mut parts, &metrics);
        let head = Head::new(config, parts, metrics).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, head, async move {
            let _ = stopped.await;
        }));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().tls_certs_only([]).build().unwrap();
        Self { url, client, stop: Some(stop), task: Some(task) }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    /// A request of a conversation that begins with `text`.
    pub(crate) fn chat(&self, text: &str, stream: bool) -> RequestBuilder {
        let body =
            json!({ "model": MODEL, "stream": stream, "messages": [{ "role": "user", "content": text }] });
        self.request(Method::POST, "/v1/chat/completions").json(&body)
    }

    pub(crate) async fn ask(&self, text: &str) -> (u16, Value) {
        read(self.chat(text, false).send().await.unwrap()).await
    }

    /// The whole transcript of a stream.
    pub(crate) async fn stream(&self, text: &str) -> String {
        let response = self.chat(text, true).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.text().await.unwrap()
    }

    /// The value of one series, written as in the text form; 0 if it is not there yet.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Wait until a series has a value.
    pub(crate) async fn until_metric(&self, series: &str, value: f64) {
        let mut seen = 0.0;
        for _ in 0..1000 {
            seen = self.metric(series).await;
            if seen == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{series} is {seen}, and never became {value}");
    }

    /// Wait until this many workers of the model are ready.
    pub(crate) async fn until_ready(&self, workers: usize) {
        self.until_metric("vlinders_head_workers{model_name=\"parrot\",state=\"ready\"}", workers as f64)
            .await;
    }

    /// Ask it to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Wait until it has; true if all requests had finished by themselves.
    pub(crate) async fn stopped(&mut self) -> bool {
        self.task.take().unwrap().await.unwrap()
    }
}

pub(crate) fn offer(name: &str, aliases: &[&str]) -> OfferedModel {
    OfferedModel {
        name: name.into(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        max_model_len: None,
        stickiness: Stickiness::Prefix,
    }
}

/// Status and JSON of an answer.
pub(crate) async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

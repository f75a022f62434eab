//! A server on a free port, and what tests need to talk to it.

mod parrot;
mod sse;
mod tokenizer;

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vlinders_engine::{EngineConfig, EngineHandle};
use vlinders_server::{
    LoadingModel, ModelNames, ModelSettings, Server, ServerConfig, ServerMetrics, ToolParser, serve,
};

pub(crate) use self::parrot::Gate;
use self::parrot::Parrot;
pub(crate) use self::sse::{events, transcript};
use self::tokenizer::{VOCAB, text_model};

/// The name the model is served under.
pub(crate) const MODEL: &str = "parrot";

/// Tokens of prompt and answer together.
pub(crate) const MAX_MODEL_LEN: usize = 256;

/// Sizes of its engine.
pub(crate) const SIZES: EngineConfig = EngineConfig {
    block_size: 4,
    num_blocks: 512,
    max_num_seqs: 32,
    max_batched_tokens: 512,
    max_waiting: 64,
    max_model_len: MAX_MODEL_LEN,
    prefix_caching: true,
};

/// A running server with one model; it ends with the value.
pub(crate) struct TestServer {
    pub(crate) engine: EngineHandle,
    /// Holds the model back.
    pub(crate) gate: Gate,
    http: HttpServer,
}

/// A running server, whatever it serves.
pub(crate) struct HttpServer {
    pub(crate) url: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<bool>>,
}

impl HttpServer {
    /// Serve on a free port.
    pub(crate) async fn start(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, server, async move {
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

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        read(self.send(path, body).await).await
    }

    pub(crate) async fn send(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> String {
        self.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap()
    }

    /// The value of one series, written as in the text form.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().unwrap()
    }

    /// Ask the server to stop.
    pub(crate) fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Wait until it has; true if all requests had finished by themselves.
    pub(crate) async fn stopped(&mut self) -> bool {
        self.task.take().unwrap().await.unwrap()
    }
}

/// What a [`HttpServer`] can do, a server with one model can too.
impl std::ops::Deref for TestServer {
    type Target = HttpServer;

    fn deref(&self) -> &HttpServer {
        &self.http
    }
}

impl std::ops::DerefMut for TestServer {
    fn deref_mut(&mut self) -> &mut HttpServer {
        &mut self.http
    }
}

impl TestServer {
    /// With the limits of a default configuration.
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// With other limits.
    pub(crate) async fn with(change: impl FnOnce(&mut ServerConfig, &mut EngineConfig)) -> Self {
        let mut config = ServerConfig::default();
        let mut sizes = SIZES;
        change(&mut config, &mut sizes);
        let gate = Gate::open();
        let (server, mut places) =
            Server::new(config, vec![parrot_names()], Arc::new(ServerMetrics::new())).unwrap();
        let engine = load_parrot(places.remove(0), sizes, &gate);
        Self { engine, gate, http: HttpServer::start(server).await }
    }

    /// What the model says to `content`, with further fields.
    pub(crate) async fn chat(&self, content: &str, fields: Value) -> Value {
        let (status, answer) = self.post("/v1/chat/completions", &chat_body(content, fields)).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The same as a stream: the whole transcript.
    pub(crate) async fn chat_stream(&self, content: &str, fields: Value) -> String {
        let mut body = chat_body(content, fields);
        body["stream"] = true.into();
        let response = self.send("/v1/chat/completions", &body).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.text().await.unwrap()
    }

    /// Wait until the engine's counts are as wanted.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&vlinders_engine::Stats) -> bool) {
        for _ in 0..2000 {
            if condition(&self.engine.stats()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never came: {what}; {:?}", self.engine.stats());
    }

    /// Wait until nothing runs, nothing waits, and all blocks are back.
    pub(crate) async fn until_idle(&self) {
        self.until("idle", |stats| stats.running == 0 && stats.waiting == 0 && stats.blocks_used == 0).await;
    }
}

/// The model of most tests has an alias.
pub(crate) fn parrot_names() -> ModelNames {
    ModelNames { name: MODEL.into(), aliases: vec!["org/parrot-small".into()] }
}

/// Put the model of the tests into its place.
pub(crate) fn load_parrot(place: LoadingModel, sizes: EngineConfig, gate: &Gate) -> EngineHandle {
    let engine = vlinders_engine::start(sizes, Parrot::new(gate.clone()), place.observer()).unwrap();
    let settings = ModelSettings {
        fingerprint: "fp_test".into(),
        max_model_len: MAX_MODEL_LEN,
        vocab_size: VOCAB as usize,
        tool_parser: Some(ToolParser::Hermes),
        ranks: 1,
    };
    place.serve(settings, engine.clone(), Arc::new(text_model()));
    engine
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.gate.set_open();
    }
}

pub(crate) fn chat_body(content: &str, fields: Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": content }], "seed": 2 });
    merge(&mut body, fields);
    body
}

/// Set the fields of `fields` in `body`.
pub(crate) fn merge(body: &mut Value, fields: Value) {
    if let Value::Object(fields) = fields {
        for (name, value) in fields {
            body[name] = value;
        }
    }
}

/// Status and JSON of an answer.
pub(crate) async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

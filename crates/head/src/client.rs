//! Connections to workers: kept open, one request at a time on each.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use vlinders_edge::Secret;

/// Talks to all workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WorkerClient {
    client: Client<HttpConnector, Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

/// Why a worker did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    #[error("the request could not be written: {0}")]
    Request(#[from] http::Error),
    #[error("{}", reason(.0))]
    Send(#[from] ClientError),
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the worker is lost")]
    Lost,
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("status {0}")]
    Status(StatusCode),
    #[error("its state can not be read: {0}; is it a worker of this version?")]
    State(serde_json::Error),
}

/// The key for workers can not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key for workers has characters other than visible ASCII")]
pub struct InvalidWorkerKey;

/// Idle connections are closed after this long, well before workers would.
const IDLE: Duration = Duration::from_secs(20);

// === impl WorkerClient ===

impl WorkerClient {
    pub(crate) fn new(key: Option<&Secret>, connect_timeout: Duration) -> Result<Self, InvalidWorkerKey> {
        let mut connector = HttpConnector::new();
        // Tokens are small and should not wait for each other.
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(connect_timeout));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        let authorization = key.map(|key| {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", key.reveal())).map_err(|_| InvalidWorkerKey)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self { client, authorization: authorization.transpose()? })
    }

    /// Send a request; gives the head of the answer.
    pub(crate) async fn send(
        &self,
        worker: &Authority,
        method: Method,
        path: &'static str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, WorkerError> {
        let uri = Uri::builder().scheme("http").authority(worker.clone()).path_and_query(path).build()?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().remove(HOST);
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        Ok(self.client.request(request).await?)
    }

    /// Ask for a small answer.
    pub(crate) async fn get(
        &self,
        worker: &Authority,
        path: &'static str,
        max_bytes: usize,
    ) -> Result<(StatusCode, Bytes), WorkerError> {
        let response = self.send(worker, Method::GET, path, HeaderMap::new(), Bytes::new()).await?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), max_bytes).collect().await.map_err(WorkerError::Body)?;
        Ok((status, body.to_bytes()))
    }
}

// === impl WorkerError ===

impl WorkerError {
    /// It may be there and busy.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }
}

/// The last cause says most: "connection refused".
fn reason(error: &ClientError) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    if error.is_connect() { format!("it can not be reached: {cause}") } else { format!("no answer: {cause}") }
}

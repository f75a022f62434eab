//! Requests to one server: where its routes are, and how failures are told.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use super::error::ClientError;
use super::sse::message_of;
use super::tls;
use crate::args::ClientArgs;
use crate::config::{ConfigError, first_key};

/// Talks to one server. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Without `/v1` and without a slash at the end.
    root: String,
    key: Option<String>,
}

impl Client {
    /// Read the key and prepare connections; asks the server nothing yet.
    ///
    /// # Errors
    /// A key or certificate file that can not be read, or an address that is none.
    pub(crate) fn new(args: &ClientArgs) -> anyhow::Result<Self> {
        let root = root_of(&args.url)?;
        let key = first_key(args.api_key_file.as_deref()).map_err(ConfigError::from)?;
        let builder =
            tls::trust(reqwest::Client::builder(), root.starts_with("https://"), args.ca_file.as_deref())?;
        let http = builder
            .user_agent(concat!("vlinders/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(usize::MAX)
            .tcp_nodelay(true)
            .build()
            .context("cannot prepare an HTTP client")?;
        Ok(Self { http, root, key })
    }

    /// Address of the server.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Ids of the models that the server lists.
    pub(crate) async fn models(&self) -> Result<Vec<String>, ClientError> {
        let list = self.get_json("/v1/models").await?;
        let models = list["data"].as_array().into_iter().flatten();
        Ok(models.filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
    }

    /// The model to ask: that of the arguments, else the first that the server lists.
    pub(crate) async fn model(&self, asked: Option<&str>) -> anyhow::Result<String> {
        if let Some(model) = asked {
            return Ok(model.to_owned());
        }
        let models = self.models().await?;
        models
            .into_iter()
            .next()
            .with_context(|| format!("{} lists no model; name one with --model", self.root))
    }

    /// GET a JSON document.
    pub(crate) async fn get_json(&self, path: &str) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.root);
        self.json(self.http.get(&url).timeout(Duration::from_secs(30)), &url).await
    }

    /// GET something whose status says all.
    pub(crate) async fn get_status(&self, path: &str, timeout: Duration) -> Result<(), ClientError> {
        let url = format!("{}{path}", self.root);
        self.send(self.http.get(&url).timeout(timeout), &url).await.map(|_| ())
    }

    /// POST JSON, get JSON.
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let url = format!("{}{path}", self.root);
        self.json(self.http.post(&url).timeout(Duration::from_secs(60)).json(body), &url).await
    }

    /// POST JSON whose answer is a stream. Returns when the status is known.
    pub(crate) async fn post_stream(&self, path: &str, body: Vec<u8>) -> Result<Response, ClientError> {
        let url = format!("{}{path}", self.root);
        self.send(self.http.post(&url).header("content-type", "application/json").body(body), &url).await
    }

    async fn json(&self, request: RequestBuilder, url: &str) -> Result<Value, ClientError> {
        let response = self.send(request, url).await?;
        let body = response.bytes().await.map_err(|error| ClientError::from_transport(url, &error))?;
        serde_json::from_slice(&body).map_err(|error| ClientError::Malformed(error.to_string()))
    }

    async fn send(&self, mut request: RequestBuilder, url: &str) -> Result<Response, ClientError> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| ClientError::from_transport(url, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.text().await.unwrap_or_default();
        let message = match serde_json::from_str::<Value>(&body) {
            Ok(json) => message_of(json.get("error").unwrap_or(&json)),
            Err(_) => body.chars().take(200).collect(),
        };
        Err(ClientError::Status { status, message })
    }
}

/// `http://host:8000/v1/` and `http://host:8000` are the same server.
fn root_of(url: &str) -> anyhow::Result<String> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let root = with_scheme.trim_end_matches('/');
    let root = root.strip_suffix("/v1").unwrap_or(root).trim_end_matches('/');
    let parsed = reqwest::Url::parse(root)
        .with_context(|| format!("`{url}` is no address; write one such as http://127.0.0.1:8000"))?;
    anyhow::ensure!(
        ["http", "https"].contains(&parsed.scheme()) && parsed.has_host(),
        "`{url}` is no address of a server; write one such as http://127.0.0.1:8000"
    );
    // The scheme decides about encryption, so it is kept in one spelling.
    Ok(match root.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => root.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for url in ["http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/", "h:8000"] {
            assert_eq!(root_of(url).unwrap(), "http://h:8000", "{url}");
        }
        assert_eq!(root_of("http://h/llm/v1").unwrap(), "http://h/llm");
        assert_eq!(root_of("HTTPS://h/v1").unwrap(), "https://h");
        for wrong in ["", "ftp://h", "http://"] {
            assert!(root_of(wrong).is_err(), "{wrong}");
        }
    }
}

//! Requests: where redirects may lead, what is tried again, and how answers that are no use are told.

use std::error::Error;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Method, Response, StatusCode, Url};

use crate::{Event, Progress, PullError, Retry};

const MAX_REDIRECTS: usize = 10;
/// A listing of a hundred thousand files.
const MAX_TEXT: usize = 64 << 20;
/// Between two pieces of an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// A client that follows redirects with care and tries again what may pass.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    pub(crate) retry: Retry,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// For the origin of `url` alone.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) headers: HeaderMap,
    pub(crate) remedies: Remedies,
}

/// What to do when a server does not want to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remedies {
    pub(crate) denied: &'static str,
    pub(crate) missing: &'static str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may be different next time.
    Passing {
        reason: String,
        after: Option<Duration>,
    },
    Lasting(PullError),
}

// === impl Ask ===

impl Ask {
    pub(crate) fn new(url: Url, remedies: Remedies) -> Self {
        Self { method: Method::GET, url, authorization: None, headers: HeaderMap::new(), remedies }
    }
}

// === impl Failure ===

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        Self::Lasting(error)
    }
}

// === impl Http ===

impl Http {
    pub(crate) fn new(builder: ClientBuilder, retry: Retry) -> Result<Self, PullError> {
        let builder = builder.redirect(Policy::none()).referer(false).read_timeout(SILENCE);
        let client = builder.connect_timeout(Duration::from_secs(10)).build().map_err(PullError::Client)?;
        Ok(Self { client, retry })
    }

    /// Ask once, and follow redirects. Besides success, the answers 412 and 416 come back, which are about what was asked.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Response, Failure> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                self.client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
            // Whoever we are sent to must not learn who we are elsewhere.
            if let Some(authorization) =
                ask.authorization.as_ref().filter(|_| url.origin() == ask.url.origin())
            {
                request = request.header(AUTHORIZATION, authorization);
            }
            let response = request.send().await.map_err(|error| passing(&error))?;
            let location = response.headers().get(LOCATION).filter(|_| response.status().is_redirection());
            let Some(location) = location else { return judged(ask, &url, response).await };
            url = redirected(&url, location)?;
        }
        let why = "and from there to others without end";
        Err(PullError::Redirect { url: shown(&ask.url), to: shown(&url), why }.into())
    }

    /// Ask until there is an answer, or no hope.
    pub(crate) async fn text(
        &self,
        ask: &Ask,
        progress: &dyn Progress,
    ) -> Result<(HeaderMap, String), PullError> {
        let mut failures = 0;
        loop {
            match self.text_once(ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    failures += 1;
                    self.wait(&ask.url, failure, failures, progress).await?;
                }
            }
        }
    }

    /// Wait before it is tried again.
    ///
    /// # Errors
    /// It lasts, or was tried often enough.
    pub(crate) async fn wait(
        &self,
        url: &Url,
        failure: Failure,
        failures: u32,
        progress: &dyn Progress,
    ) -> Result<(), PullError> {
        let (reason, after) = match failure {
            Failure::Lasting(error) => return Err(error),
            Failure::Passing { reason, after } => (reason, after),
        };
        let url = shown(url);
        let Some(wait) = self.retry.wait(failures, after) else {
            return Err(PullError::GaveUp { url, reason, attempts: failures });
        };
        progress.event(Event::Retrying { what: &url, reason: &reason, wait });
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn text_once(&self, ask: &Ask) -> Result<(HeaderMap, String), Failure> {
        let mut response = self.send(ask).await?;
        let status = response.status();
        let malformed = |reason: String| PullError::Malformed { url: shown(&ask.url), reason };
        if !status.is_success() {
            return Err(malformed(format!("status {status}")).into());
        }
        let headers = response.headers().clone();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| passing(&error))? {
            if bytes.len() + chunk.len() > MAX_TEXT {
                return Err(malformed(format!("a listing of more than {MAX_TEXT} bytes")).into());
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(bytes).map_err(|_| malformed("bytes that are no text".to_owned()))?;
        Ok((headers, text))
    }
}

/// What a failed connection or a broken answer is.
pub(crate) fn passing(error: &reqwest::Error) -> Failure {
    // reqwest's own message repeats the address, parameters and all; the last cause says what happened.
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let reason = if error.is_timeout() { "no answer in time".to_owned() } else { last.to_string() };
    Failure::Passing { reason, after: None }
}

/// An address as it may be shown: parameters may hold a signature.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

fn redirected(url: &Url, location: &HeaderValue) -> Result<Url, PullError> {
    let refused = |to: String, why| PullError::Redirect { url: shown(url), to, why };
    let text = location.to_str().unwrap_or_default();
    let next = url.join(text).map_err(|_| refused(text.to_owned(), "which is no address"))?;
    if !["http", "https"].contains(&next.scheme()) {
        return Err(refused(shown(&next), "which is no web server"));
    }
    if url.scheme() == "https" && next.scheme() != "https" {
        return Err(refused(shown(&next), "which is not encrypted"));
    }
    Ok(next)
}

async fn judged(ask: &Ask, url: &Url, response: Response) -> Result<Response, Failure> {
    let status = response.status();
    let url = shown(url);
    Err(match status {
        StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => return Ok(response),
        _ if status.is_success() => return Ok(response),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let said = said(response).await;
            let remedy = format!("{}{said}", ask.remedies.denied);
            PullError::Denied { url, status: status.as_u16(), remedy }.into()
        }
        StatusCode::NOT_FOUND => PullError::Missing { url, remedy: ask.remedies.missing.to_owned() }.into(),
        _ if status.is_server_error() || [408, 425, 429].contains(&status.as_u16()) => {
            let after =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let reason = format!("the server answered {status}");
            Failure::Passing { reason, after: after.map(Duration::from_secs) }
        }
        _ => {
            let message = said(response).await;
            PullError::Status { url, status: status.as_u16(), message }.into()
        }
    })
}

/// What the server says itself, of the hub in JSON and of S3 in XML. Nothing else of an answer is shown.
async fn said(mut response: Response) -> String {
    const ENOUGH: usize = 4096;
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ENOUGH {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let json = serde_json::from_str::<serde_json::Value>(&text).ok();
    let message = json.and_then(|json| json["error"].as_str().map(str::to_owned)).or_else(|| {
        let inside = |tag: &str| {
            let (_, rest) = text.split_once(&format!("<{tag}>"))?;
            Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
        };
        Some(format!("{}, {}", inside("Code")?, inside("Message")?))
    });
    let message: String = message.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect();
    if message.is_empty() { message } else { format!(" (the server says: {message})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_leave_encryption_or_the_web() {
        let next = |from: &str, to: &'static str| {
            redirected(&from.parse().unwrap(), &HeaderValue::from_static(to)).map(|url| url.to_string())
        };
        assert_eq!(next("https://a/b/c", "/d").unwrap(), "https://a/d");
        assert_eq!(next("http://a/b", "https://cdn/x?y").unwrap(), "https://cdn/x?y");
        for (from, to) in
            [("https://a", "http://a"), ("https://a", "file:///etc/passwd"), ("http://a", "http://")]
        {
            assert!(matches!(next(from, to), Err(PullError::Redirect { .. })), "{to}");
        }
    }
}

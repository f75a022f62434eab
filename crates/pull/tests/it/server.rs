//! A web server that keeps files, knows ranges and versions, and fails as it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::stream;

/// What a server does instead of what it should.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Send so many bytes of the answer, then break the connection.
    CutAfter(usize),
    /// The same, and have other content from then on.
    CutAndReplace(usize, Vec<u8>),
    /// Answer with this status.
    Status(u16),
    /// Change a byte on the way.
    WrongByte,
    /// Ignore what range was asked for.
    NoRange,
}

/// One request, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
}

/// What one server has and does.
#[derive(Default)]
pub(crate) struct Site {
    /// By path with a slash before it.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// What happens to the next GETs of a path, in order.
    pub(crate) faults: Vec<(String, Fault)>,
    pub(crate) seen: Vec<Seen>,
    /// More headers of the answer for a path.
    pub(crate) headers: Vec<(String, &'static str, String)>,
    /// Where to go instead, by path.
    pub(crate) redirects: BTreeMap<String, String>,
    /// HEAD says that every file is empty.
    pub(crate) heads_are_empty: bool,
    /// Bearer token that is asked for.
    pub(crate) token: Option<String>,
    /// Objects of a bucket are listed and requests have to be signed.
    pub(crate) bucket: Option<crate::bucket::Keys>,
}

/// A running server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    site: Arc<Mutex<Site>>,
}

// === impl Seen ===

impl Seen {
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

// === impl Server ===

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let site = Arc::new(Mutex::new(Site::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&site));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, site }
    }

    pub(crate) fn site(&self) -> MutexGuard<'_, Site> {
        self.site.lock().unwrap()
    }

    pub(crate) fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.site().files.insert(path.to_owned(), content.into());
    }

    pub(crate) fn fail(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        let mut site = self.site();
        site.faults.extend(faults.into_iter().map(|fault| (path.to_owned(), fault)));
    }

    /// GETs of one path so far.
    pub(crate) fn gets(&self, path: &str) -> Vec<Seen> {
        let site = self.site();
        site.seen.iter().filter(|seen| seen.method == Method::GET && seen.path == path).cloned().collect()
    }
}

async fn answer(State(site): State<Arc<Mutex<Site>>>, request: Request) -> Response {
    let mut site = site.lock().unwrap();
    let seen = Seen {
        method: request.method().clone(),
        path: percent_decoded(request.uri().path()),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    site.seen.push(seen.clone());
    let wanted = site.token.as_ref().map(|token| format!("Bearer {token}"));
    if wanted.is_some() && seen.header(header::AUTHORIZATION) != wanted.as_deref() {
        return (StatusCode::UNAUTHORIZED, r#"{"error": "Invalid credentials"}"#).into_response();
    }
    if let Some(keys) = &site.bucket {
        if let Err(why) = keys.check(&seen) {
            let text = format!("<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>");
            return (StatusCode::FORBIDDEN, text).into_response();
        }
        if seen.query.contains("list-type=2") {
            return crate::bucket::listing(&site, &seen).into_response();
        }
    }
    let is_get = seen.method == Method::GET;
    let fault = site.faults.iter().position(|(path, _)| is_get && *path == seen.path);
    let fault = fault.map(|idx| site.faults.remove(idx).1);
    if let Some(Fault::Status(status)) = fault {
        return (StatusCode::from_u16(status).unwrap(), "").into_response();
    }
    if let Some(to) = site.redirects.get(&seen.path) {
        return (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response();
    }
    let Some(content) = site.files.get(&seen.path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(Fault::CutAndReplace(_, content)) = &fault {
        site.files.insert(seen.path.clone(), content.clone());
    }
    let more = site.headers.iter().filter(|(path, ..)| *path == seen.path);
    let more: Vec<_> = more.map(|(_, name, value)| (*name, value.clone())).collect();
    let mut response = part(&seen, content, fault);
    if site.heads_are_empty && seen.method == Method::HEAD {
        response = [(header::CONTENT_LENGTH, "0")].into_response();
    }
    for (name, value) in more {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

fn part(seen: &Seen, mut content: Vec<u8>, fault: Option<Fault>) -> Response {
    let etag = etag(&content);
    if seen.header(header::IF_MATCH).is_some_and(|wanted| wanted != etag) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    let same = seen.header(header::IF_RANGE).is_none_or(|wanted| wanted == etag);
    let range = seen.header(header::RANGE).filter(|_| same && !matches!(fault, Some(Fault::NoRange)));
    let first = range.map(|range| {
        let first = range.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-'));
        first.unwrap().parse::<usize>().unwrap()
    });
    let total = content.len();
    if first.is_some_and(|first| first >= total) {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    if matches!(fault, Some(Fault::WrongByte)) {
        let middle = total / 2;
        content[middle] ^= 1;
    }
    let bytes = Bytes::from(content).slice(first.unwrap_or(0)..);
    let mut response =
        Response::builder().header(header::ETAG, etag).header(header::CONTENT_LENGTH, bytes.len());
    if let Some(first) = first {
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {first}-{}/{total}", total - 1));
    }
    let body = match fault {
        Some(Fault::CutAfter(count) | Fault::CutAndReplace(count, _)) => {
            let parts = [Ok(bytes.slice(..count.min(bytes.len()))), Err(std::io::Error::other("cut"))];
            Body::from_stream(stream::iter(parts))
        }
        _ => Body::from(bytes),
    };
    response.body(body).unwrap()
}

pub(crate) fn etag(content: &[u8]) -> String {
    format!("\"{}\"", &crate::support::sha256(content)[..32])
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&others[..2]).unwrap(), 16).unwrap());
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).unwrap()
}

//! Style and scripts: part of the program, named after their content, kept by browsers for as long as they like.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use xxhash_rust::xxh3::xxh3_64;

/// A file that pages ask for.
#[derive(Debug)]
pub(crate) struct Asset {
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    text: &'static str,
    hash: LazyLock<String>,
}

macro_rules! asset {
    ($name:ident, $stem:literal, $extension:literal, $content_type:literal) => {
        #[doc = concat!("`", $stem, ".", $extension, "`.")]
        pub(crate) static $name: Asset = Asset {
            stem: $stem,
            extension: $extension,
            content_type: $content_type,
            text: include_str!(concat!("../assets/", $stem, ".", $extension)),
            hash: LazyLock::new(|| {
                format!("{:016x}", xxh3_64(include_bytes!(concat!("../assets/", $stem, ".", $extension))))
            }),
        };
    };
}

asset!(STYLE, "style", "css", "text/css; charset=utf-8");
asset!(THEME, "theme", "js", "text/javascript; charset=utf-8");
asset!(LIVE, "live", "js", "text/javascript; charset=utf-8");
asset!(PLAYGROUND, "playground", "js", "text/javascript; charset=utf-8");
asset!(ICON, "icon", "svg", "image/svg+xml");

static ALL: [&Asset; 5] = [&STYLE, &THEME, &LIVE, &PLAYGROUND, &ICON];

// === impl Asset ===

impl Asset {
    /// Where it is, relative to a page.
    pub(crate) fn path(&self) -> String {
        format!("assets/{}", self.name())
    }

    fn name(&self) -> String {
        format!("{}-{}.{}", self.stem, &*self.hash, self.extension)
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", &*self.hash);
        let known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = known.is_some_and(|tags| tags.split(',').any(|known| matches(known.trim(), &tag)));
        let mut response =
            if is_known { StatusCode::NOT_MODIFIED.into_response() } else { self.text.into_response() };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.insert(ETAG, tag);
        }
        response
    }
}

/// Weak comparison of RFC 9110.
fn matches(known: &str, tag: &str) -> bool {
    known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
}

/// The route of all assets.
pub(crate) async fn asset(
    method: Method,
    uri: Uri,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match ALL.iter().find(|asset| asset.name() == name) {
        Some(asset) => asset.answer(&headers),
        None => vlinders_edge::not_found(method, uri).await.into_response(),
    }
}

//! Which web pages may call the API from a browser.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// Origins that may call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CorsOrigins {
    /// None: browsers refuse calls from other origins.
    #[default]
    None,
    /// Any.
    Any,
    /// These, for instance `https://chat.example.org`.
    List(Vec<HeaderValue>),
}

/// An origin that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an origin; write scheme and host, for instance https://chat.example.org, or * for all")]
pub struct InvalidOrigin(String);

// === impl CorsOrigins ===

impl CorsOrigins {
    /// Read a list of origins; `*` stands for all.
    ///
    /// # Errors
    /// An entry is not an origin.
    pub fn parse<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidOrigin> {
        let mut list = Vec::new();
        for origin in origins {
            if origin == "*" {
                return Ok(Self::Any);
            }
            let host = origin.split_once("://").map(|(_, host)| host);
            let valid = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
            match HeaderValue::from_str(origin) {
                Ok(value) if valid => list.push(value),
                _ => return Err(InvalidOrigin(origin.to_owned())),
            }
        }
        Ok(if list.is_empty() { Self::None } else { Self::List(list) })
    }
}

/// The layer that answers preflight requests; `None` if no origin may call.
///
/// Requested headers are mirrored, since `*` does not cover `Authorization`.
#[must_use]
pub fn cors(origins: &CorsOrigins) -> Option<CorsLayer> {
    let origins = match origins {
        CorsOrigins::None => return None,
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::List(list) => AllowOrigin::list(list.iter().cloned()),
    };
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([HeaderName::from_static("x-request-id"), RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    Some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_checked() {
        assert_eq!(CorsOrigins::parse([]), Ok(CorsOrigins::None));
        assert_eq!(CorsOrigins::parse(["https://a.org", "*"]), Ok(CorsOrigins::Any));
        assert_eq!(
            CorsOrigins::parse(["http://localhost:3000"]),
            Ok(CorsOrigins::List(vec![HeaderValue::from_static("http://localhost:3000")]))
        );
        for wrong in ["localhost", "https://", "https://a.org/path", ""] {
            assert_eq!(CorsOrigins::parse([wrong]), Err(InvalidOrigin(wrong.into())));
        }
    }
}

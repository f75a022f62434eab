//! How a browser proves who asks for pages: by name and password, of which the password is a key or token as programs send it.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// What makes a browser ask its user.
const ASK: HeaderValue = HeaderValue::from_static("Basic realm=\"Vlinders\", charset=\"UTF-8\"");

/// Middleware around a guard that knows bearer tokens: a password is passed on as one, and a refusal asks for it. For pages
/// that only show something; what a browser sends by itself must not be enough to change anything.
pub async fn browser_credentials(mut request: Request, next: Next) -> Response {
    if let Some(bearer) = bearer(request.headers()) {
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let mut response = next.run(request).await;
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, ASK);
    }
    response
}

/// The password of `Authorization: Basic …` as a bearer token.
fn bearer(headers: &HeaderMap) -> Option<HeaderValue> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (_, password) = pair.split_once(':')?;
    let mut value = HeaderValue::try_from(format!("Bearer {password}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("a header"));
        bearer(&headers).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn a_password_is_a_token() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(sent(&basic("anybody:sk-1")).as_deref(), Some("Bearer sk-1"));
        assert_eq!(sent(&basic(":sk:2")).as_deref(), Some("Bearer sk:2"));
        for other in ["Bearer sk-1", "Basic ???", &basic("no colon"), &basic("a:b\nc")] {
            assert_eq!(sent(other), None, "{other}");
        }
    }
}

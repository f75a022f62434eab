//! API keys: who may ask. Keys are kept hashed and compared in constant time.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::error::{ApiError, ErrorKind};

/// The keys that are accepted.
///
/// Only their SHA-256 hashes are kept: equal lengths make the comparison constant in time, and no key shows up in
/// a log or a core dump.
#[derive(Clone)]
pub struct ApiKeys {
    hashes: Vec<[u8; 32]>,
}

/// The list of keys can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidApiKeys {
    /// There is none: that would lock everybody out.
    #[error("the list of API keys is empty; add one key a line, or leave it out to serve without keys")]
    Empty,
    /// A key has characters that no HTTP header can carry.
    #[error("line {0} of the API keys has characters other than visible ASCII")]
    Characters(usize),
}

// === impl ApiKeys ===

impl ApiKeys {
    /// Read keys from a text: one a line; empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// There is no key, or one that could never be sent.
    pub fn parse(text: &str) -> Result<Self, InvalidApiKeys> {
        Self::from_lines(key_lines(text))
    }

    /// The keys of numbered lines, each line one key.
    ///
    /// # Errors
    /// As [`ApiKeys::parse`].
    pub fn from_lines<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, InvalidApiKeys> {
        let hashes = lines
            .map(|(number, key)| {
                let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
                if visible { Ok(hash(key)) } else { Err(InvalidApiKeys::Characters(number)) }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if hashes.is_empty() { Err(InvalidApiKeys::Empty) } else { Ok(Self { hashes }) }
    }

    /// Check the `Authorization` header of a request.
    ///
    /// # Errors
    /// No key was sent, or an unknown one.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match self.position(bearer(headers)?) {
            Some(_) => Ok(()),
            None => Err(unknown_key()),
        }
    }

    /// Which key this is, counted from 0. Compares with every key, whether or not one has matched already.
    #[must_use]
    pub fn position(&self, key: &str) -> Option<usize> {
        let given = hash(key);
        let found = self.hashes.iter().zip(1_u64..).fold(0_u64, |found, (known, number)| {
            u64::conditional_select(&found, &number, known.ct_eq(&given))
        });
        usize::try_from(found).ok()?.checked_sub(1)
    }

    /// The first hexadecimal digits of the SHA-256 of a key: a name for a key that has none.
    #[must_use]
    pub fn fingerprint(key: &str) -> String {
        hash(key)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Middleware that lets only requests with a known key pass; with `None` all do.
    ///
    /// # Errors
    /// As [`ApiKeys::check`].
    pub async fn guard(
        State(keys): State<Option<Self>>,
        request: Request,
        next: Next,
    ) -> Result<Response, ApiError> {
        if let Some(keys) = &keys {
            keys.check(request.headers())?;
        }
        Ok(next.run(request).await)
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.hashes.len())
    }
}

/// The lines of a text that hold something, trimmed and with their numbers: neither empty nor a `#` comment.
pub fn key_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(idx, line)| (idx + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// What follows `Bearer` in the only `Authorization` header of a request.
///
/// # Errors
/// There is no such header, there are several, or it has another form.
pub fn bearer(headers: &HeaderMap) -> Result<&str, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(|| {
        ApiError::new(
            ErrorKind::Unauthorized,
            "this server needs an API key: send the header 'Authorization: Bearer KEY'",
        )
        .with_code("missing_api_key")
    })?;
    if values.next().is_some() {
        // Whoever stands before us may have looked at another one of them.
        return Err(ApiError::new(ErrorKind::Unauthorized, "send one Authorization header, not several")
            .with_code("duplicate_authorization"));
    }
    let value = value.to_str().ok().and_then(|value| value.split_once(' '));
    let bearer = value.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearer.map(|(_, key)| key.trim()).ok_or_else(unknown_key)
}

/// The answer to a key that is not one of ours.
#[must_use]
pub fn unknown_key() -> ApiError {
    ApiError::new(ErrorKind::Unauthorized, "the API key is not known to this server")
        .with_code("invalid_api_key")
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(keys: &ApiKeys, header: Option<&str>) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, header.parse().expect("a header"));
        }
        keys.check(&headers).err().and_then(|error| error.code())
    }

    #[test]
    fn only_known_keys_pass() {
        let keys = ApiKeys::parse("# team one\nsk-one\n\n  sk-two  \n").expect("keys");
        assert_eq!(code(&keys, Some("Bearer sk-one")), None);
        assert_eq!(code(&keys, Some("bearer sk-two")), None);
        assert_eq!(code(&keys, None), Some("missing_api_key"));
        for wrong in [
            "Bearer sk-on",
            "Bearer sk-onee",
            "Bearer ",
            "Bearer",
            "sk-one",
            "Basic sk-one",
            "Bearer # team one",
        ] {
            assert_eq!(code(&keys, Some(wrong)), Some("invalid_api_key"), "{wrong}");
        }
    }

    #[test]
    fn each_key_has_its_place_and_several_headers_have_none() {
        let keys = ApiKeys::parse("sk-one\nsk-two\nsk-three").expect("keys");
        let places = ["sk-one", "sk-two", "sk-three", "sk-four"].map(|key| keys.position(key));
        assert_eq!(places, [Some(0), Some(1), Some(2), None]);
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, "Bearer sk-one".parse().expect("a header"));
        headers.append(AUTHORIZATION, "Bearer sk-one".parse().expect("a header"));
        assert_eq!(
            keys.check(&headers).err().and_then(|error| error.code()),
            Some("duplicate_authorization")
        );
        assert_eq!(ApiKeys::fingerprint("sk-one"), "456f1612");
    }

    #[test]
    fn lists_that_would_lock_everybody_out_are_refused() {
        assert_eq!(ApiKeys::parse("# nothing\n\n").err(), Some(InvalidApiKeys::Empty));
        assert_eq!(ApiKeys::parse("ok\nb\u{e4}d").err(), Some(InvalidApiKeys::Characters(2)));
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let keys = ApiKeys::parse("sk-secret").expect("a key");
        assert_eq!(format!("{keys:?}"), "ApiKeys(1)");
    }
}

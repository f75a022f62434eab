//! API keys: who may ask. Keys are kept hashed and compared in constant time.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

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
        let mut hashes = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(InvalidApiKeys::Characters(number + 1));
            }
            hashes.push(hash(key));
        }
        if hashes.is_empty() { Err(InvalidApiKeys::Empty) } else { Ok(Self { hashes }) }
    }

    /// Check the `Authorization` header of a request.
    ///
    /// # Errors
    /// No key was sent, or an unknown one.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let value = headers.get(AUTHORIZATION).ok_or_else(|| {
            ApiError::new(
                ErrorKind::Unauthorized,
                "this server needs an API key: send the header 'Authorization: Bearer KEY'",
            )
            .with_code("missing_api_key")
        })?;
        let key = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim());
        match key {
            Some(key) if self.contains(key) => Ok(()),
            _ => Err(ApiError::new(ErrorKind::Unauthorized, "the API key is not known to this server")
                .with_code("invalid_api_key")),
        }
    }

    /// Compares with every key, whether or not one has matched already.
    fn contains(&self, key: &str) -> bool {
        let given = hash(key);
        let found = self.hashes.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&given));
        found.into()
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

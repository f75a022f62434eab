//! When the headers of a gateway are believed, and which consumer they mean.
//!
//! With a gateway configured, a request with headers of a consumer but without the secret is refused rather than
//! stripped: a gateway that forgets its secret is noticed at once, and a client that tries learns nothing more.

use http::{HeaderMap, HeaderName, HeaderValue};
use vlinders_edge::{ApiError, ApiKeys, key_lines};

use crate::consumer::{Consumer, Source, refused, unusable};
use crate::error::ConsumersError;

/// A gateway, as Kong is one, that has identified the consumer and proves by a secret that it is the gateway.
#[derive(Debug, Clone)]
pub struct TrustedGateway {
    secrets: ApiKeys,
}

const SECRET: HeaderName = HeaderName::from_static("x-internal-secret");
/// Kong says with it that nobody has signed in.
const ANONYMOUS: HeaderName = HeaderName::from_static("x-anonymous-consumer");
/// The first that is there names the consumer.
const NAMES: [HeaderName; 3] = [
    HeaderName::from_static("x-consumer-username"),
    HeaderName::from_static("x-consumer-custom-id"),
    HeaderName::from_static("x-credential-identifier"),
];
const MIN_SECRET: usize = 16;

// === impl TrustedGateway ===

impl TrustedGateway {
    /// Read secrets from a text: one a line, several while they are changed; `#` begins a comment.
    ///
    /// # Errors
    /// There is none, one has fewer than 16 characters, or one can not stand in a header.
    pub fn parse(text: &str) -> Result<Self, ConsumersError> {
        if let Some((number, _)) = key_lines(text).find(|(_, secret)| secret.len() < MIN_SECRET) {
            return Err(ConsumersError::ShortSecret(number));
        }
        Ok(Self { secrets: ApiKeys::parse(text)? })
    }

    /// The consumer that the gateway names; `None` if the request does not come from the gateway.
    ///
    /// # Errors
    /// A wrong secret, headers of a consumer without the secret, several of one header, or no usable name.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Option<Consumer>, ApiError> {
        let claims_consumer = NAMES.iter().chain([&ANONYMOUS]).any(|name| headers.contains_key(name));
        let Some(secret) = single(headers, &SECRET)? else {
            return if claims_consumer { Err(untrusted()) } else { Ok(None) };
        };
        let known = secret.to_str().ok().and_then(|secret| self.secrets.position(secret));
        known.ok_or_else(untrusted)?;
        if let Some(value) = single(headers, &ANONYMOUS)? {
            return match value.as_bytes() {
                b"true" => Ok(Some(Consumer::anonymous())),
                b"false" => named(headers),
                _ => Err(unusable()),
            };
        }
        named(headers)
    }
}

fn named(headers: &HeaderMap) -> Result<Option<Consumer>, ApiError> {
    for name in &NAMES {
        if let Some(value) = single(headers, name)? {
            let id = value.to_str().map_err(|_| unusable())?;
            return Consumer::new(id, Source::Gateway).map(Some).ok_or_else(unusable);
        }
    }
    Err(refused("the gateway names no consumer", "missing_consumer"))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(refused(&format!("send one header '{name}', not several"), "duplicate_header")),
    }
}

fn untrusted() -> ApiError {
    refused("these headers are taken from the gateway alone, with its secret", "untrusted_gateway")
}

#[cfg(test)]
mod tests;

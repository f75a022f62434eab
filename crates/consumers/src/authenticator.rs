//! Who asks: the one place that decides which of the configured proofs of identity counts.

use http::HeaderMap;
use vlinders_edge::{ApiError, bearer, unknown_key};

use crate::consumer::{Consumer, refused};
use crate::gateway::TrustedGateway;
use crate::jwt::JwtVerifier;
use crate::named_keys::NamedKeys;

/// Tells who asks. Each part is optional; without any, everybody is [`Consumer::anonymous`].
///
/// A gateway comes first: whoever has its secret is believed, and `Authorization` is not looked at. Else a bearer token
/// must be one of the keys or a valid JWT.
#[derive(Debug, Clone, Default)]
pub struct Authenticator {
    keys: Option<NamedKeys>,
    tokens: Option<JwtVerifier>,
    gateway: Option<TrustedGateway>,
}

// === impl Authenticator ===

impl Authenticator {
    /// An authenticator that knows nobody: everybody is anonymous.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Take these keys.
    #[must_use]
    pub fn with_keys(mut self, keys: NamedKeys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Take signed tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: JwtVerifier) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Believe a gateway.
    #[must_use]
    pub fn with_gateway(mut self, gateway: TrustedGateway) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Everybody is let in, as anonymous.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.keys.is_none() && self.tokens.is_none() && self.gateway.is_none()
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// 401 with a code that says what is wrong; nothing of what was sent is repeated.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Consumer, ApiError> {
        if self.is_open() {
            return Ok(Consumer::anonymous());
        }
        if let Some(gateway) = &self.gateway {
            if let Some(consumer) = gateway.identify(headers)? {
                return Ok(consumer);
            }
            if self.keys.is_none() && self.tokens.is_none() {
                return Err(refused("requests are taken from the gateway alone", "untrusted_gateway"));
            }
        }
        let token = bearer(headers)?;
        if let Some(consumer) = self.keys.as_ref().and_then(|keys| keys.consumer(token)) {
            return Ok(consumer);
        }
        match &self.tokens {
            // A mistyped key is not a damaged token: only what has the form of one is answered as one.
            Some(tokens) if self.keys.is_none() || token.matches('.').count() == 2 => tokens.verify(token),
            _ => Err(unknown_key()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn answer(who: &Authenticator, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        match who.identify(&map) {
            Ok(consumer) => format!("{} by {}", consumer.id(), consumer.source().as_str()),
            Err(error) => error.code().expect("a code").to_owned(),
        }
    }

    #[test]
    fn an_open_server_believes_nobody() {
        let open = Authenticator::open();
        assert!(open.is_open());
        for headers in [
            &[][..],
            &[("authorization", "Bearer sk-1")],
            &[("x-consumer-username", "admin")],
            &[("x-internal-secret", SECRET), ("x-consumer-username", "admin")],
        ] {
            assert_eq!(answer(&open, headers), "anonymous by anonymous");
        }
    }

    #[test]
    fn keys_alone_ignore_headers_of_a_gateway() {
        let keys = Authenticator::open().with_keys(NamedKeys::parse("blue sk-1").expect("keys"));
        let spoof = ("x-consumer-username", "admin");
        assert_eq!(answer(&keys, &[("authorization", "Bearer sk-1"), spoof]), "blue by key");
        assert_eq!(answer(&keys, &[spoof]), "missing_api_key");
        assert_eq!(answer(&keys, &[("x-internal-secret", SECRET), spoof]), "missing_api_key");
        assert_eq!(answer(&keys, &[("authorization", "Bearer a.b.c")]), "invalid_api_key");
        let twice = [("authorization", "Bearer sk-1"), ("authorization", "Bearer sk-1")];
        assert_eq!(answer(&keys, &twice), "duplicate_authorization");
    }

    #[test]
    fn a_gateway_and_keys_stand_side_by_side() {
        let gateway = Authenticator::open().with_gateway(TrustedGateway::parse(SECRET).expect("a secret"));
        let both = gateway.clone().with_keys(NamedKeys::parse("blue sk-1").expect("keys"));
        let (secret, name) = (("x-internal-secret", SECRET), ("x-consumer-username", "alice"));
        let key = ("authorization", "Bearer sk-1");
        assert!(!gateway.is_open() && !both.is_open());
        assert_eq!(answer(&both, &[secret, name, key]), "alice by gateway");
        assert_eq!(answer(&both, &[key]), "blue by key");
        assert_eq!(answer(&both, &[key, name]), "untrusted_gateway");
        assert_eq!(answer(&both, &[]), "missing_api_key");
        assert_eq!(answer(&gateway, &[secret, name]), "alice by gateway");
        assert_eq!(answer(&gateway, &[key]), "untrusted_gateway");
        assert_eq!(answer(&gateway, &[]), "untrusted_gateway");
    }
}

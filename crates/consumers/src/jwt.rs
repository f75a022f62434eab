//! Which signed tokens are believed, and which consumer they name.
//!
//! One algorithm (RS256) and the keys of one issuer are pinned by the configuration; nothing in a token chooses what it is
//! verified with. `kid`, `jku`, `jwk`, `x5u` and `x5c` are ignored, `crit` is refused.

mod keys;
mod ring_provider;

use std::fmt;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind as Fault;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use vlinders_edge::ApiError;

use crate::consumer::{Consumer, Source, refused, unusable};
use crate::error::ConsumersError;

/// What a token must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtRules {
    /// One of them must be in `aud`.
    pub audiences: Vec<String>,
    /// If there are any, one of them must be `iss`.
    pub issuers: Vec<String>,
    /// By how much clocks may differ; no more than an hour counts.
    pub leeway: Duration,
    /// The claim that names the consumer.
    pub consumer_claim: String,
}

/// Verifies tokens of one issuer.
#[derive(Clone)]
pub struct JwtVerifier {
    /// Tried in turn: an issuer that changes its key has two for a while.
    keys: Vec<DecodingKey>,
    validation: Validation,
    consumer_claim: String,
}

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8 << 10;
const MAX_LEEWAY: u64 = 3600;

// === impl JwtRules ===

impl JwtRules {
    /// Tokens for `audience`, from any issuer with our keys, within 30 s, that name the consumer in `sub`.
    #[must_use]
    pub fn new(audience: impl Into<String>) -> Self {
        Self {
            audiences: vec![audience.into()],
            issuers: Vec::new(),
            leeway: Duration::from_secs(30),
            consumer_claim: "sub".to_owned(),
        }
    }
}

// === impl JwtVerifier ===

impl JwtVerifier {
    /// A verifier with the public keys of `pem`: one to eight of `PUBLIC KEY` or `RSA PUBLIC KEY`, 2048 bits or more.
    ///
    /// # Errors
    /// No key, too many, one that can not be used, or no audience.
    pub fn new(pem: &str, rules: &JwtRules) -> Result<Self, ConsumersError> {
        ring_provider::install();
        if rules.audiences.is_empty() {
            return Err(ConsumersError::NoAudience);
        }
        let mut validation = Validation::new(Algorithm::RS256);
        let mut required = vec!["exp", "aud"];
        validation.set_audience(&rules.audiences);
        if !rules.issuers.is_empty() {
            validation.set_issuer(&rules.issuers);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation.validate_nbf = true;
        validation.leeway = rules.leeway.as_secs().min(MAX_LEEWAY);
        Ok(Self { keys: keys::parse(pem)?, validation, consumer_claim: rules.consumer_claim.clone() })
    }

    /// The consumer that `token` names.
    ///
    /// # Errors
    /// 401 with a code that says why; the token is never repeated.
    pub fn verify(&self, token: &str) -> Result<Consumer, ApiError> {
        if token.len() > MAX_TOKEN {
            return Err(refused("the token is longer than 8 KiB", "invalid_token"));
        }
        let header = decode_header(token).map_err(|_| malformed())?;
        if header.crit.is_some() {
            return Err(refused(
                "the token has a 'crit' header, which is not understood here",
                "invalid_token",
            ));
        }
        let claims = self.claims(token)?;
        let id = claims.get(&self.consumer_claim).and_then(Value::as_str).ok_or_else(unusable)?;
        Consumer::new(id, Source::Jwt).ok_or_else(unusable)
    }

    fn claims(&self, token: &str) -> Result<Map<String, Value>, ApiError> {
        let mut refusal = malformed();
        for key in &self.keys {
            match decode::<Map<String, Value>>(token, key, &self.validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) if matches!(error.kind(), Fault::InvalidSignature) => {
                    refusal = answer(error.kind())
                }
                Err(error) => return Err(answer(error.kind())),
            }
        }
        Err(refusal)
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtVerifier({} keys)", self.keys.len())
    }
}

fn malformed() -> ApiError {
    refused("the token is not a JWT signed with RS256", "invalid_token")
}

fn answer(fault: &Fault) -> ApiError {
    match fault {
        Fault::ExpiredSignature => refused("the token has expired; get a new one", "token_expired"),
        Fault::ImmatureSignature => refused("the token is not valid yet", "token_not_yet_valid"),
        Fault::InvalidSignature => refused("the signature of the token is not valid", "invalid_signature"),
        Fault::InvalidAudience => refused("the token is meant for somebody else (aud)", "invalid_audience"),
        Fault::InvalidIssuer => refused("the token is from somebody else (iss)", "invalid_issuer"),
        Fault::MissingRequiredClaim(claim) => match claim.as_str() {
            "aud" => refused("the token has no usable audience (aud)", "invalid_audience"),
            "iss" => refused("the token has no usable issuer (iss)", "invalid_issuer"),
            _ => refused("the token does not say when it expires (exp)", "invalid_token"),
        },
        _ => malformed(),
    }
}

#[cfg(test)]
mod tests;

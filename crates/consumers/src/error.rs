//! The one error of this crate: what is wrong with a configuration. None of them shows a secret.

/// A configuration that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConsumersError {
    /// The keys or secrets can not be read.
    #[error(transparent)]
    Keys(#[from] vlinders_edge::InvalidApiKeys),
    /// A line of the named keys has a form of its own.
    #[error(
        "line {0} of the API keys must be KEY, or NAME KEY with a name of 1 to 128 visible characters other than 'anonymous'"
    )]
    KeyLine(usize),
    /// The same key stands twice.
    #[error("line {0} of the API keys repeats a key of a line above")]
    RepeatedKey(usize),
    /// The secret of a gateway is guessable.
    #[error(
        "line {0} of the gateway's secrets has fewer than 16 characters; make one with `openssl rand -hex 32`"
    )]
    ShortSecret(usize),
    /// The keys of a token's issuer can not be used.
    #[error("public key {number} of the issuer of tokens: {reason}")]
    PublicKey {
        /// Counted from 1.
        number: usize,
        /// What is wrong, and what is expected.
        reason: &'static str,
    },
    /// There is no key, or there are too many.
    #[error("the issuer of tokens needs 1 to 8 public keys in PEM (-----BEGIN PUBLIC KEY-----), found {0}")]
    NumPublicKeys(usize),
    /// A token for anybody would be a token for us.
    #[error("name at least one audience of tokens, as in the claim `aud`")]
    NoAudience,
    /// A rate limit is beyond what can be counted.
    #[error("the rate limit of {whom} is larger than {max} a minute; use 0 for none", max = crate::MAX_LIMIT)]
    Limit {
        /// `default`, or the consumer.
        whom: String,
    },
    /// The address of Redis can not be used.
    #[error(
        "the address of Redis must be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS"
    )]
    RedisUrl,
    /// The certificates of Redis can not be used.
    #[error("the certificate authority of Redis is not a certificate in PEM")]
    RedisCertificate,
}

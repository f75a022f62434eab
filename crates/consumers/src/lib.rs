//! Who asks, and how much they may: identities of consumers, and their limits in requests and tokens.

mod authenticator;
mod bucket;
mod consumer;
mod error;
mod gateway;
mod grant;
mod jwt;
mod limiter;
mod limits;
mod memory;
mod named_keys;
mod refusal;
mod shared;

pub use self::{
    authenticator::Authenticator,
    consumer::{Consumer, Source},
    error::ConsumersError,
    gateway::TrustedGateway,
    grant::Grant,
    jwt::{JwtRules, JwtVerifier},
    limiter::RateLimiter,
    limits::{Limits, MAX_LIMIT, RateLimits},
    named_keys::NamedKeys,
    refusal::Refusal,
    shared::{RedisOptions, RedisUrl, WhenGone},
};

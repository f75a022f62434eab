//! How much each consumer may: limits a minute, with a default and exceptions.

use std::collections::HashMap;

use crate::error::ConsumersError;

/// The largest limit a minute. Up to it, every number of the algorithm is exact in Redis too, whose scripts count in f64.
pub const MAX_LIMIT: u64 = 1_000_000_000;

/// What a consumer may each minute; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests a minute, and at once.
    pub requests_per_minute: u64,
    /// Tokens a minute, and at once: of the prompt and of the answer.
    pub tokens_per_minute: u64,
}

/// The limits of all consumers.
#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    default: Limits,
    overrides: HashMap<String, Limits>,
}

// === impl Limits ===

impl Limits {
    /// Nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    fn check(self, whom: &str) -> Result<Self, ConsumersError> {
        if self.requests_per_minute.max(self.tokens_per_minute) > MAX_LIMIT {
            return Err(ConsumersError::Limit { whom: whom.to_owned() });
        }
        Ok(self)
    }
}

// === impl RateLimits ===

impl RateLimits {
    /// `default` for everybody but those in `overrides`, by their id; an override replaces both limits.
    ///
    /// # Errors
    /// A limit is larger than [`MAX_LIMIT`].
    pub fn new(default: Limits, overrides: HashMap<String, Limits>) -> Result<Self, ConsumersError> {
        for (id, limits) in &overrides {
            limits.check(id)?;
        }
        Ok(Self { default: default.check("default")?, overrides })
    }

    /// The limits of a consumer.
    #[must_use]
    pub fn of(&self, id: &str) -> Limits {
        self.overrides.get(id).copied().unwrap_or(self.default)
    }
}

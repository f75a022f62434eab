//! Who is admitted: limits, the buckets that decide, and what happens when Redis is gone.

use std::sync::Arc;

use metrics::Counter;
use vlinders_edge::Metrics;

use crate::bucket::{Cost, Decision};
use crate::consumer::Consumer;
use crate::error::ConsumersError;
use crate::grant::{Charge, Grant, Home, Standing};
use crate::limits::{Limits, RateLimits};
use crate::memory::Memory;
use crate::refusal::Refusal;
use crate::shared::{RedisOptions, Shared, WhenGone};

/// Limits requests and tokens of each consumer a minute. Clones share everything.
#[derive(Clone)]
pub struct RateLimiter {
    inner: Arc<Inner>,
}

struct Inner {
    limits: RateLimits,
    memory: Memory,
    shared: Option<(Shared, WhenGone)>,
    admitted: Counter,
    refused: Counter,
    unavailable: Counter,
}

// === impl RateLimiter ===

impl RateLimiter {
    /// Limits of this process alone.
    #[must_use]
    pub fn in_memory(limits: RateLimits, metrics: &Metrics) -> Self {
        Self::new(limits, None, metrics)
    }

    /// Limits shared by all processes with the same Redis. Redis need not be there yet: this waits at most two seconds for
    /// it, and then does as [`WhenGone`] says until it comes.
    ///
    /// # Errors
    /// The address or a certificate can not be used.
    pub async fn with_redis(
        limits: RateLimits,
        options: RedisOptions,
        metrics: &Metrics,
    ) -> Result<Self, ConsumersError> {
        let when_gone = options.when_gone;
        let shared = Shared::new(options, metrics)?;
        shared.start().await;
        Ok(Self::new(limits, Some((shared, when_gone)), metrics))
    }

    fn new(limits: RateLimits, shared: Option<(Shared, WhenGone)>, metrics: &Metrics) -> Self {
        const DECISIONS: &str = "vlinders_rate_limit_decisions_total";
        metrics.describe_counter(
            DECISIONS,
            "Requests that the rate limits admitted, refused, or could not judge",
        );
        let counter = |result| {
            let counter = metrics.counter(DECISIONS, &[("result", result)]);
            counter.increment(0);
            counter
        };
        let (admitted, refused, unavailable) =
            (counter("admitted"), counter("refused"), counter("unavailable"));
        let memory = Memory::new();
        Self { inner: Arc::new(Inner { limits, memory, shared, admitted, refused, unavailable }) }
    }

    /// Admit one request that will use about `tokens` (of its prompt, and the most it may generate).
    ///
    /// An estimate beyond all that a consumer may use in a minute counts as all of it: such a request is admitted when
    /// nothing is owed, and owes the rest once settled.
    ///
    /// # Errors
    /// A limit is reached, or nobody can tell.
    pub async fn admit(&self, consumer: &Consumer, tokens: u64) -> Result<Grant, Refusal> {
        let inner = &*self.inner;
        let limits = inner.limits.of(consumer.id());
        if limits.is_unlimited() {
            inner.admitted.increment(1);
            return Ok(Grant { standing: Standing { limits, debts: Default::default() }, charge: None });
        }
        let cost = Cost { requests: 1, tokens: tokens.min(limits.tokens_per_minute) };
        let id = consumer.shared_id();
        let Some((decision, home)) = self.decide(&id, limits, cost).await else {
            inner.unavailable.increment(1);
            return Err(Refusal::unavailable());
        };
        let standing = Standing { limits, debts: decision.debts };
        if !decision.admitted {
            inner.refused.increment(1);
            return Err(Refusal::limited(standing, cost));
        }
        inner.admitted.increment(1);
        let charge = Charge { limiter: self.clone(), id, tokens: cost.tokens, home };
        Ok(Grant { standing, charge: Some(charge) })
    }

    async fn decide(&self, id: &Arc<str>, limits: Limits, cost: Cost) -> Option<(Decision, Home)> {
        let inner = &*self.inner;
        if let Some((shared, when_gone)) = &inner.shared {
            if let Some(decision) = shared.admit(id, limits, cost).await {
                return Some((decision, Home::Shared));
            }
            if *when_gone == WhenGone::Closed {
                return None;
            }
        }
        Some((inner.memory.admit(id, inner.memory.now(), limits, cost), Home::Memory))
    }

    pub(crate) fn settle(&self, id: &Arc<str>, limits: Limits, used: u64, charged: u64, home: Home) {
        let difference = i128::from(used) - i128::from(charged);
        // Beyond an hour of the largest limit nothing is counted; the bound keeps the script's numbers exact.
        let most = 60 * crate::MAX_LIMIT.cast_signed();
        let more = i64::try_from(difference.clamp(-i128::from(most), i128::from(most))).unwrap_or(most);
        if limits.tokens_per_minute == 0 || more == 0 {
            return;
        }
        match (&self.inner.shared, home) {
            (Some((shared, _)), Home::Shared) => shared.settle(id, limits, more),
            _ => self.inner.memory.settle(id, self.inner.memory.now(), limits, more),
        }
    }
}

impl std::fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimiter").field("limits", &self.inner.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! The algorithm of the limits: two buckets a consumer, that leak at the rate of their limit and hold one minute of it.
//!
//! In any span of `t` minutes at most `limit × (1 + t)` is admitted. State is a debt for each bucket, in 1/60,000 of a
//! request or token, so that one leaks `limit` of them each millisecond and no number is rounded; no state is no debt.
//! `shared/bucket.lua` is the same in Redis, and a property test holds them together.

use std::time::Duration;

use crate::limits::Limits;

/// Parts of a request or token: milliseconds of a minute.
const PARTS: u64 = 60_000;
/// A debt is forgiven beyond so many minutes, whatever a request has used.
const MAX_MINUTES: u64 = 60;

/// What is not leaked yet, in parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Debts {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

/// Two buckets and when they were looked at, in milliseconds of any clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Buckets {
    debts: Debts,
    at: u64,
}

/// What a request asks for. `tokens` is at most the whole limit: more could never be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
}

/// The answer: whether the cost is taken, and the debts after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) admitted: bool,
    pub(crate) debts: Debts,
}

// === impl Buckets ===

impl Buckets {
    /// Take `cost` from both buckets, or from none. A refusal leaves no trace.
    pub(crate) fn admit(&mut self, now: u64, limits: Limits, cost: Cost) -> Decision {
        let mut next = *self;
        next.leak(now, limits);
        let debts = next.debts;
        let admitted = wait(debts.requests, limits.requests_per_minute, cost.requests).is_zero()
            && wait(debts.tokens, limits.tokens_per_minute, cost.tokens).is_zero();
        if admitted {
            next.debts.requests = owed(debts.requests, limits.requests_per_minute, cost.requests);
            next.debts.tokens = owed(debts.tokens, limits.tokens_per_minute, cost.tokens);
            *self = next;
        }
        Decision { admitted, debts: next.debts }
    }

    /// Take `more` tokens, or give them back if it is negative; nobody is asked.
    pub(crate) fn settle(&mut self, now: u64, limits: Limits, more: i64) {
        self.leak(now, limits);
        let change = more.unsigned_abs().saturating_mul(PARTS);
        let debt = self.debts.tokens;
        let debt = if more < 0 { debt.saturating_sub(change) } else { debt.saturating_add(change) };
        self.debts.tokens = debt.min(most(limits.tokens_per_minute));
    }

    fn leak(&mut self, now: u64, limits: Limits) {
        // A clock that goes back leaks nothing until it goes on.
        let elapsed = now.saturating_sub(self.at).min(MAX_MINUTES * PARTS);
        let left = |debt: u64, limit: u64| debt.min(most(limit)).saturating_sub(elapsed * limit);
        self.debts.requests = left(self.debts.requests, limits.requests_per_minute);
        self.debts.tokens = left(self.debts.tokens, limits.tokens_per_minute);
        self.at = now;
    }
}

/// The largest debt under `limit`; none where there is no limit.
fn most(limit: u64) -> u64 {
    MAX_MINUTES * PARTS * limit
}

fn owed(debt: u64, limit: u64, cost: u64) -> u64 {
    if limit == 0 { 0 } else { debt + cost * PARTS }
}

/// Until `cost` fits under `limit`.
pub(crate) fn wait(debt: u64, limit: u64, cost: u64) -> Duration {
    if limit == 0 {
        return Duration::ZERO;
    }
    let over = (debt + cost * PARTS).saturating_sub(limit * PARTS);
    Duration::from_millis(over.div_ceil(limit))
}

/// What is left under `limit`, in whole requests or tokens.
pub(crate) fn remaining(debt: u64, limit: u64) -> u64 {
    (limit * PARTS).saturating_sub(debt) / PARTS
}

/// Until nothing is owed.
pub(crate) fn reset(debt: u64, limit: u64) -> Duration {
    Duration::from_millis(debt.div_ceil(limit.max(1)))
}

#[cfg(test)]
mod tests;

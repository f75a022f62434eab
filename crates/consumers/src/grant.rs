//! What an admitted request may tell its client, and how its estimate becomes what it used.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::bucket::{Debts, remaining, reset};
use crate::limiter::RateLimiter;
use crate::limits::Limits;

/// The right of one request.
///
/// Dropped without [`Grant::settle`], the estimate stays as what was used: whoever does not know what a request used must
/// not give anything back.
#[must_use = "settle it with the tokens that were used, or the estimate stays"]
pub struct Grant {
    pub(crate) standing: Standing,
    /// Where to settle; nowhere if nothing is limited.
    pub(crate) charge: Option<Charge>,
}

/// What was taken, from whom and where.
pub(crate) struct Charge {
    pub(crate) limiter: RateLimiter,
    pub(crate) id: Arc<str>,
    pub(crate) tokens: u64,
    pub(crate) home: Home,
}

/// Which buckets have decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Memory,
    Shared,
}

/// Where a consumer stands under its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limits: Limits,
    pub(crate) debts: Debts,
}

// === impl Grant ===

impl Grant {
    /// Add `x-ratelimit-limit-`, `-remaining-` and `-reset-requests` and `-tokens`, for limits that there are.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        self.standing.write_headers(headers);
    }

    /// Replace the estimate by the tokens that were used: the difference is given back, or owed. Takes no time of the
    /// request; where Redis can not be told, the estimate stays.
    pub fn settle(self, used_tokens: u64) {
        if let Some(charge) = self.charge {
            charge.limiter.settle(&charge.id, self.standing.limits, used_tokens, charge.tokens, charge.home);
        }
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.standing.fmt(f)
    }
}

// === impl Standing ===

impl Standing {
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        const REQUESTS: [HeaderName; 3] = [
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderName::from_static("x-ratelimit-reset-requests"),
        ];
        const TOKENS: [HeaderName; 3] = [
            HeaderName::from_static("x-ratelimit-limit-tokens"),
            HeaderName::from_static("x-ratelimit-remaining-tokens"),
            HeaderName::from_static("x-ratelimit-reset-tokens"),
        ];
        let requests = (REQUESTS, self.limits.requests_per_minute, self.debts.requests);
        let tokens = (TOKENS, self.limits.tokens_per_minute, self.debts.tokens);
        for ([limit_name, remaining_name, reset_name], limit, debt) in [requests, tokens] {
            if limit > 0 {
                headers.insert(limit_name, limit.into());
                headers.insert(remaining_name, remaining(debt, limit).into());
                let until = HeaderValue::try_from(written(reset(debt, limit)));
                headers.insert(reset_name, until.expect("digits and units are visible"));
            }
        }
    }
}

/// A span of time as OpenAI writes it: `120ms`, `1s`, `1.5s`, `6m0s`, `1h0m0s`.
pub(crate) fn written(span: Duration) -> String {
    let millis = span.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let fraction = format!("{:03}", millis % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", millis / 1000 % 60);
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_does() {
        let cases = [
            (0, "0ms"),
            (120, "120ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (7_066, "7.066s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (3_661_010, "1h1m1.01s"),
        ];
        for (millis, expected) in cases {
            assert_eq!(written(Duration::from_millis(millis)), expected);
        }
    }
}

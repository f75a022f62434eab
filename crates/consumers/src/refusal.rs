//! How a refused request is answered.

use std::time::Duration;

use http::HeaderMap;
use vlinders_edge::ApiError;

use crate::bucket::{Cost, remaining, wait};
use crate::grant::{Standing, written};

/// Why a request is not admitted.
#[derive(Debug)]
pub struct Refusal(Reason);

#[derive(Debug)]
enum Reason {
    /// A limit is reached.
    Limited { standing: Standing, cost: Cost },
    /// Nobody can tell, and without telling nobody is let in.
    Unavailable,
}

/// When to ask again while Redis is gone.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(1);

// === impl Refusal ===

impl Refusal {
    pub(crate) fn limited(standing: Standing, cost: Cost) -> Self {
        Self(Reason::Limited { standing, cost })
    }

    pub(crate) fn unavailable() -> Self {
        Self(Reason::Unavailable)
    }

    /// The error, and the headers that its response needs besides: 429 `rate_limit_exceeded` that names the limit, or 503
    /// `rate_limiter_unavailable`; both with Retry-After.
    #[must_use]
    pub fn into_error(self) -> (ApiError, HeaderMap) {
        let mut headers = HeaderMap::new();
        let (standing, cost) = match self.0 {
            Reason::Limited { standing, cost } => (standing, cost),
            Reason::Unavailable => {
                let message = "the rate limits cannot be looked up at the moment; try again";
                return (
                    ApiError::unavailable(message, "rate_limiter_unavailable", RETRY_UNAVAILABLE),
                    headers,
                );
            }
        };
        standing.write_headers(&mut headers);
        let Standing { limits, debts } = standing;
        let requests = ("requests", limits.requests_per_minute, debts.requests, cost.requests);
        let tokens = ("tokens", limits.tokens_per_minute, debts.tokens, cost.tokens);
        let until = |(_, limit, debt, cost): (&str, u64, u64, u64)| wait(debt, limit, cost);
        let longest = if until(tokens) > until(requests) { tokens } else { requests };
        let (what, limit, debt, cost) = longest;
        let message = format!(
            "rate limit reached: {limit} {what} a minute, {} left, {cost} needed; try again in {}",
            remaining(debt, limit),
            written(until(longest)),
        );
        (ApiError::too_many(message, "rate_limit_exceeded", until(longest)), headers)
    }
}

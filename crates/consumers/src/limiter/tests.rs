//! What clients see of limits, with the buckets of one process.

use std::collections::HashMap;

use axum::response::IntoResponse as _;
use http::HeaderMap;

use super::*;
use crate::consumer::Source;
use crate::limits::MAX_LIMIT;

fn limiter(rpm: u64, tpm: u64) -> RateLimiter {
    let limits = Limits { requests_per_minute: rpm, tokens_per_minute: tpm };
    let double = Limits { requests_per_minute: rpm * 2, tokens_per_minute: tpm * 2 };
    let overrides = HashMap::from([("double".to_owned(), double), ("free".to_owned(), Limits::default())]);
    RateLimiter::in_memory(RateLimits::new(limits, overrides).expect("limits"), &Metrics::new(&[]))
}

fn consumer(id: &str) -> Consumer {
    Consumer::new(id, Source::Key).expect("an id")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("none", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn every_consumer_has_its_own_limits() {
    let limiter = limiter(3, 0);
    for (id, expected) in [("one", 3), ("two", 3), ("double", 6), ("free", 50)] {
        let mut admitted = 0;
        for _ in 0..50 {
            admitted += usize::from(limiter.admit(&consumer(id), 1000).await.is_ok());
        }
        assert_eq!(admitted, expected, "{id}");
    }
}

#[tokio::test]
async fn answers_say_where_a_consumer_stands() {
    let limiter = limiter(60, 6000);
    let mut headers = HeaderMap::new();
    limiter.admit(&consumer("a"), 3000).await.expect("admitted").write_headers(&mut headers);
    assert_eq!(header(&headers, "x-ratelimit-limit-requests"), "60");
    assert_eq!(header(&headers, "x-ratelimit-remaining-requests"), "59");
    assert_eq!(header(&headers, "x-ratelimit-reset-requests"), "1s");
    assert_eq!(header(&headers, "x-ratelimit-limit-tokens"), "6000");
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), "3000");
    assert_eq!(header(&headers, "x-ratelimit-reset-tokens"), "30s");
    let mut none = HeaderMap::new();
    limiter.admit(&consumer("free"), 3000).await.expect("admitted").write_headers(&mut none);
    assert!(none.is_empty());
}

#[tokio::test]
async fn refusals_say_which_limit_and_until_when() {
    let limiter = limiter(60, 600);
    limiter.admit(&consumer("a"), 600).await.expect("admitted").settle(900);
    let (error, headers) = limiter.admit(&consumer("a"), 60).await.expect_err("refused").into_error();
    assert_eq!(error.code(), Some("rate_limit_exceeded"));
    let message = error.to_string();
    assert!(
        message.starts_with("rate limit reached: 600 tokens a minute, 0 left, 60 needed; try again in 3"),
        "{message}"
    );
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens"), "0");
    assert_eq!(header(&headers, "x-ratelimit-limit-requests"), "60");
    let response = error.into_response();
    assert_eq!(response.status().as_u16(), 429);
    // 300 tokens are owed beyond the limit and 60 more are wanted: 36 s, less what has passed since.
    let seconds: u64 = header(response.headers(), "retry-after").parse().expect("whole seconds");
    assert!((30..=36).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn estimates_become_what_was_used() {
    let limiter = limiter(0, 1000);
    let grant = limiter.admit(&consumer("a"), 1000).await.expect("admitted");
    assert!(limiter.admit(&consumer("a"), 900).await.is_err());
    grant.settle(50);
    drop(limiter.admit(&consumer("a"), 900).await.expect("what was not used came back"));
    assert!(limiter.admit(&consumer("a"), 900).await.is_err(), "a dropped grant gave its estimate back");
}

#[tokio::test]
async fn a_request_larger_than_the_limit_is_admitted_when_nothing_is_owed() {
    let limiter = limiter(0, 1000);
    let grant = limiter.admit(&consumer("a"), u64::MAX).await.expect("admitted");
    grant.settle(5000);
    let (error, _) = limiter.admit(&consumer("a"), 1).await.expect_err("refused").into_error();
    assert!(error.to_string().contains("try again in 4m"), "{error}");
}

#[tokio::test]
async fn decisions_are_counted() {
    let metrics = Metrics::new(&[]);
    let limits = Limits { requests_per_minute: 1, tokens_per_minute: 0 };
    let limiter = RateLimiter::in_memory(RateLimits::new(limits, HashMap::new()).expect("limits"), &metrics);
    for _ in 0..3 {
        limiter.admit(&consumer("a"), 1).await.ok();
    }
    let text = metrics.render();
    for (result, count) in [("admitted", 1), ("refused", 2), ("unavailable", 0)] {
        let line = format!("vlinders_rate_limit_decisions_total{{result=\"{result}\"}} {count}");
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn limits_beyond_counting_are_refused() {
    let limits = |rpm| Limits { requests_per_minute: rpm, tokens_per_minute: 0 };
    assert!(RateLimits::new(limits(MAX_LIMIT), HashMap::new()).is_ok());
    assert!(RateLimits::new(limits(MAX_LIMIT + 1), HashMap::new()).is_err());
    let overrides = HashMap::from([("big".to_owned(), limits(u64::MAX))]);
    let error = RateLimits::new(limits(1), overrides).expect_err("refused").to_string();
    assert!(error.starts_with("the rate limit of big "), "{error}");
}

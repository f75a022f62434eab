//! Limits shared through a real Redis: many clients, restarts, passwords, and what happens while it is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Barrier;
use vlinders_consumers::{Consumer, Limits, RateLimiter, RateLimits, RedisOptions, Source, WhenGone};
use vlinders_edge::Metrics;
use vlinders_testkit::Redis;

struct Head {
    limiter: RateLimiter,
    metrics: Metrics,
}

fn limits(rpm: u64, tpm: u64) -> RateLimits {
    let limits = Limits { requests_per_minute: rpm, tokens_per_minute: tpm };
    RateLimits::new(limits, HashMap::new()).expect("limits")
}

/// A timeout far beyond what a busy machine takes: a test of what is admitted must not become one of what is slow.
fn patient(url: &str) -> RedisOptions {
    let options = RedisOptions::new(vec![url.parse().expect("an address")], false);
    RedisOptions { timeout: Duration::from_secs(20), ..options }
}

async fn head(limits: RateLimits, options: RedisOptions) -> Head {
    let metrics = Metrics::new(&[]);
    let limiter = RateLimiter::with_redis(limits, options, &metrics).await.expect("options");
    Head { limiter, metrics }
}

fn alice() -> Consumer {
    Consumer::new("alice", Source::Jwt).expect("an id")
}

impl Head {
    fn has(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|found| found == line)
    }

    fn is_up(&self) -> bool {
        self.has("vlinders_rate_limit_backend_up 1")
    }

    async fn until_up(&self) {
        let up = async {
            while !self.is_up() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), up).await.expect("redis is found again");
    }

    /// `None` is admitted, otherwise the code of the refusal.
    async fn refusal(&self) -> Option<&'static str> {
        self.limiter.admit(&alice(), 1).await.err().and_then(|refusal| refusal.into_error().0.code())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_of_two_heads_never_exceed_the_budget() {
    const CLIENTS: usize = 64;
    let redis = Redis::start().expect("redis");
    // The buckets leak while this runs, so what they may have leaked is allowed for.
    let (first, second) = (
        head(limits(100, 10_000), patient(&redis.url())).await,
        head(limits(100, 10_000), patient(&redis.url())).await,
    );
    assert!(first.is_up() && second.is_up());
    let began = std::time::Instant::now();
    let start = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let limiter = if number % 2 == 0 { &first } else { &second }.limiter.clone();
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                let mut admitted = 0;
                for _ in 0..10 {
                    admitted += usize::from(limiter.admit(&alice(), 90).await.is_ok());
                }
                admitted
            })
        })
        .collect();
    let mut admitted = 0;
    for client in clients {
        admitted += client.await.expect("a client");
    }
    let minutes = began.elapsed().as_secs_f64() / 60.0 + 0.001;
    assert!(admitted >= 100, "{admitted}");
    assert!((admitted as f64) <= 100.0 * (1.0 + minutes), "{admitted} in {minutes} minutes");
}

#[tokio::test]
async fn grants_are_settled_in_redis() {
    let redis = Redis::start().expect("redis");
    let (first, second) = (
        head(limits(0, 1000), patient(&redis.url())).await,
        head(limits(0, 1000), patient(&redis.url())).await,
    );
    let grant = first.limiter.admit(&alice(), 1000).await.expect("admitted");
    assert!(second.limiter.admit(&alice(), 800).await.is_err());
    grant.settle(100);
    // Settling is off the path of the request; it is done when the other head sees it.
    let seen = async {
        while second.limiter.admit(&alice(), 800).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.expect("settled");
}

#[tokio::test]
async fn without_redis_an_open_head_limits_alone_and_comes_back() {
    let mut redis = Redis::start().expect("redis");
    let head = head(limits(2, 0), patient(&redis.url())).await;
    assert_eq!(head.refusal().await, None);
    redis.stop();
    // Alone, with buckets of its own: two more, and then no more.
    let answers = [head.refusal().await, head.refusal().await, head.refusal().await];
    assert_eq!(answers, [None, None, Some("rate_limit_exceeded")]);
    assert!(!head.is_up() && !head.has("vlinders_rate_limit_backend_errors_total 0"));
    redis.restart().expect("redis again");
    head.until_up().await;
    // Redis has forgotten, and counts anew.
    assert_eq!([head.refusal().await, head.refusal().await], [None, None]);
    assert!(head.has("vlinders_rate_limit_decisions_total{result=\"unavailable\"} 0"));
}

#[tokio::test]
async fn without_redis_a_closed_head_admits_nobody_and_comes_back() {
    let mut redis = Redis::start().expect("redis");
    let closed = RedisOptions { when_gone: WhenGone::Closed, ..patient(&redis.url()) };
    let head = head(limits(100, 0), closed).await;
    assert_eq!(head.refusal().await, None);
    redis.stop();
    let (error, headers) = head.limiter.admit(&alice(), 1).await.expect_err("refused").into_error();
    assert_eq!((error.kind().status().as_u16(), error.code()), (503, Some("rate_limiter_unavailable")));
    assert!(headers.is_empty());
    assert_eq!(head.refusal().await, Some("rate_limiter_unavailable"));
    assert!(head.has("vlinders_rate_limit_decisions_total{result=\"unavailable\"} 2"));
    redis.restart().expect("redis again");
    head.until_up().await;
    assert_eq!(head.refusal().await, None);
}

#[tokio::test]
async fn a_head_may_start_before_redis() {
    let mut redis = Redis::start().expect("redis");
    redis.stop();
    let closed = RedisOptions { when_gone: WhenGone::Closed, ..patient(&redis.url()) };
    let head = head(limits(100, 0), closed).await;
    assert_eq!(head.refusal().await, Some("rate_limiter_unavailable"));
    redis.restart().expect("redis");
    head.until_up().await;
    assert_eq!(head.refusal().await, None);
}

#[tokio::test]
async fn a_redis_that_hangs_is_asked_once() {
    let redis = Redis::start().expect("redis");
    let options = RedisOptions {
        timeout: Duration::from_millis(300),
        when_gone: WhenGone::Closed,
        ..patient(&redis.url())
    };
    let head = head(limits(100, 0), options).await;
    head.until_up().await;
    redis.client(&["client", "pause", "600000", "all"]).expect("redis-cli");
    for _ in 0..200 {
        assert_eq!(head.refusal().await, Some("rate_limiter_unavailable"));
    }
    // 200 waits of 300 ms would be a minute; searching makes a few errors of its own.
    let errors = head.metrics.render();
    let errors =
        errors.lines().find_map(|line| line.strip_prefix("vlinders_rate_limit_backend_errors_total "));
    assert!(errors.is_some_and(|count| count.parse::<u32>().expect("a number") < 20), "{errors:?}");
}

#[tokio::test]
async fn a_password_is_needed_and_never_shown() {
    let redis = Redis::with_password("s3cret-word").expect("redis");
    let right = head(limits(100, 0), patient(&redis.url())).await;
    assert!(right.is_up());
    assert_eq!(right.refusal().await, None);
    assert!(!format!("{:?} {:?}", right.limiter, patient(&redis.url())).contains("s3cret"));
    for url in [format!("redis://{}", redis.address()), format!("redis://:wrong@{}", redis.address())] {
        let closed = RedisOptions { when_gone: WhenGone::Closed, ..patient(&url) };
        let wrong = head(limits(100, 0), closed).await;
        assert!(!wrong.is_up());
        assert_eq!(wrong.refusal().await, Some("rate_limiter_unavailable"));
    }
}

#[tokio::test]
async fn tls_is_spoken_with_the_right_authority_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, issued.cert.pem()).expect("a file");
    std::fs::write(&key, issued.signing_key.serialize_pem()).expect("a file");
    let redis = Redis::with_tls(&certificate, &key).expect("redis");
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let url = redis.tls_url().expect("an address");
    for (authority, up) in [(Some(issued.cert.pem()), true), (Some(other.cert.pem()), false), (None, false)] {
        let options = RedisOptions { authority, when_gone: WhenGone::Closed, ..patient(&url) };
        let head = head(limits(100, 0), options).await;
        assert_eq!(head.is_up(), up);
        assert_eq!(head.refusal().await.is_none(), up);
    }
}

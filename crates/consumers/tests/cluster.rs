//! Limits shared through a real cluster of six: slots on all masters, and a master that dies.

use std::collections::HashMap;
use std::time::Duration;

use vlinders_consumers::{Consumer, Limits, RateLimiter, RateLimits, RedisOptions, Source, WhenGone};
use vlinders_edge::Metrics;
use vlinders_testkit::{Redis, RedisCluster};

async fn limiter(cluster: &RedisCluster) -> RateLimiter {
    let urls = cluster.urls().iter().map(|url| url.parse().expect("an address")).collect();
    let options = RedisOptions::new(urls, true);
    let options = RedisOptions { timeout: Duration::from_secs(5), when_gone: WhenGone::Closed, ..options };
    let limits = Limits { requests_per_minute: 3, tokens_per_minute: 3000 };
    let limits = RateLimits::new(limits, HashMap::new()).expect("limits");
    RateLimiter::with_redis(limits, options, &Metrics::new(&[])).await.expect("options")
}

fn consumer(number: usize) -> Consumer {
    Consumer::new(&format!("consumer-{number}"), Source::Key).expect("an id")
}

/// `None` is admitted, otherwise the code of the refusal.
async fn refusal(limiter: &RateLimiter, consumer: &Consumer) -> Option<&'static str> {
    limiter.admit(consumer, 10).await.err().and_then(|refusal| refusal.into_error().0.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_decides_for_all_and_survives_a_master() {
    let mut cluster = RedisCluster::start().expect("a cluster");
    let (first, second) = (limiter(&cluster).await, limiter(&cluster).await);
    // Thirty consumers are on all three masters; each has three requests, whichever head it asks.
    for number in 0..30 {
        let who = consumer(number);
        let mut admitted = 0;
        for head in [&first, &second, &first, &second, &first, &second] {
            let answer = refusal(head, &who).await;
            assert!(matches!(answer, None | Some("rate_limit_exceeded")), "{answer:?}");
            admitted += usize::from(answer.is_none());
        }
        assert!((3..=4).contains(&admitted), "{admitted} of consumer {number}");
    }
    let says = |node: &Redis, word| node.client(&[word]).expect("redis-cli");
    let masters = cluster.nodes().iter().filter(|node| says(node, "role").starts_with("master"));
    assert_eq!(masters.filter(|node| says(node, "dbsize").trim() != "0").count(), 3, "all masters have keys");

    let who = consumer(100);
    assert_eq!(refusal(&first, &who).await, None);
    cluster.stop_master_of("vlinders:limits:{consumer-100}").expect("a master");
    let back = async {
        while refusal(&first, &who).await == Some("rate_limiter_unavailable") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), back).await.expect("the replica takes over");
    for number in 200..230 {
        let who = consumer(number);
        let patient = async {
            while refusal(&second, &who).await.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(90), patient).await.expect("decisions go on, in every slot");
    }
}

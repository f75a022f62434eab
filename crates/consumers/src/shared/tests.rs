//! The script and the algorithm of the process give the same answers.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vlinders_testkit::Redis;

use super::*;
use crate::bucket::Buckets;

fn steps() -> impl Strategy<Value = Vec<(i64, Option<u64>, i64)>> {
    // Pauses may be negative, as of clocks that are set back.
    let step = (-2000_i64..90_000, prop::option::of(0_u64..3000), -4000_i64..8000);
    prop::collection::vec(step, 1..60)
}

async fn shared(redis: &Redis) -> Shared {
    let options = RedisOptions::new(vec![redis.url().parse().expect("an address")], false);
    // Nothing here is about time, and this machine may be busy.
    let options = RedisOptions { timeout: Duration::from_secs(20), ..options };
    let shared = Shared::new(options, &Metrics::new(&[])).expect("options");
    shared.start().await;
    shared
}

#[test]
fn redis_and_the_process_decide_the_same() {
    let redis = Redis::start().expect("redis");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let shared = runtime.block_on(shared(&redis));
    let cases = std::cell::Cell::new(0);
    let sizes = prop::sample::select(vec![0, 1, 7, 60, 1000, 1_000_000, crate::MAX_LIMIT]);
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    let outcome =
        runner.run(&(sizes.clone(), sizes, 1_u64..1_000_000, steps()), |(rpm, tpm, scale, steps)| {
            cases.set(cases.get() + 1);
            let limits = Limits { requests_per_minute: rpm, tokens_per_minute: tpm };
            let (mut buckets, mut now) = (Buckets::default(), 1_764_000_000_000_u64);
            for (pause, tokens, more) in steps {
                now = now.saturating_add_signed(pause);
                let scale = if tpm > 1_000_000 { scale } else { 1 };
                let cost = tokens.map(|tokens| Cost { requests: 1, tokens: (tokens * scale).min(tpm) });
                let more = more * scale.cast_signed();
                let call = Call { key: format!("case{}", cases.get()), now: Some(now), limits, cost, more };
                let theirs = runtime.block_on(shared.call(call)).expect("an answer");
                match cost {
                    Some(cost) => prop_assert_eq!(theirs, buckets.admit(now, limits, cost)),
                    None => {
                        buckets.settle(now, limits, more);
                        let free = Cost { requests: 0, tokens: 0 };
                        prop_assert_eq!(theirs.debts, buckets.admit(now, limits, free).debts);
                    }
                }
            }
            Ok(())
        });
    outcome.expect("the same decisions");
}

#[tokio::test]
async fn keys_end_when_nothing_is_owed_and_probes_leave_none() {
    let redis = Redis::start().expect("redis");
    let shared = shared(&redis).await;
    assert_eq!(redis.client(&["dbsize"]).expect("redis-cli").trim(), "0");
    let limits = Limits { requests_per_minute: 60, tokens_per_minute: 1000 };
    let cost = Cost { requests: 1, tokens: 500 };
    assert!(shared.admit("alice", limits, cost).await.expect("an answer").admitted);
    let life: u64 = redis
        .client(&["pttl", "vlinders:limits:{alice}"])
        .expect("redis-cli")
        .trim()
        .parse()
        .expect("a number");
    assert!((1..=90_000).contains(&life), "half a minute is owed, and a minute is slack: {life} ms");
    let call = Call {
        key: "vlinders:limits:{alice}".to_owned(),
        now: None,
        limits: Limits { requests_per_minute: 0, ..limits },
        cost: None,
        more: -500,
    };
    shared.call(call).await.expect("an answer");
    assert_eq!(redis.client(&["dbsize"]).expect("redis-cli").trim(), "0");
}

#[test]
fn addresses_are_checked_and_never_shown() {
    for good in ["redis://h", "rediss://h:1", "redis://:pa%20ss@h:6379/2", "redis://user:secret@10.0.0.1"] {
        let url: RedisUrl = good.parse().expect(good);
        let options = RedisOptions::new(vec![url], false);
        let shown = format!("{options:?}");
        assert!(!shown.contains("secret") && !shown.contains("ss@"), "{shown}");
    }
    for bad in
        ["", "h:6379", "http://h", "redis://:secret@h:port", "rediss://:secret@h#insecure", "unix:///secret"]
    {
        let error = bad.parse::<RedisUrl>().expect_err(bad);
        assert!(!format!("{error} {error:?}").contains("secret"), "{bad}");
    }
}

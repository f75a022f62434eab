//! Properties of the buckets, over any sequence of calls.

use proptest::prelude::*;

use super::*;

fn limits(requests: u64, tokens: u64) -> Limits {
    Limits { requests_per_minute: requests, tokens_per_minute: tokens }
}

proptest! {
    /// In any span of time no more is admitted than the limit and what leaks meanwhile.
    #[test]
    fn no_span_of_time_admits_more_than_the_limit_and_its_leak(
        rpm in 1_u64..50, tpm in 1_u64..5000,
        calls in prop::collection::vec((0_u64..5000, 1_u64..6000), 1..120),
    ) {
        let (limits, mut buckets, mut now) = (limits(rpm, tpm), Buckets::default(), 1_000_000);
        let mut admitted = Vec::new();
        for (pause, tokens) in calls {
            now += pause;
            let cost = Cost { requests: 1, tokens: tokens.min(tpm) };
            if buckets.admit(now, limits, cost).admitted {
                admitted.push((now, cost.tokens));
            }
        }
        for first in 0..admitted.len() {
            let (mut requests, mut tokens) = (0, 0);
            for (at, cost) in &admitted[first..] {
                (requests, tokens) = (requests + 1, tokens + cost);
                let elapsed = at - admitted[first].0;
                prop_assert!(requests * PARTS <= rpm * (PARTS + elapsed), "{requests} requests in {elapsed} ms");
                prop_assert!(tokens * PARTS <= tpm * (PARTS + elapsed), "{tokens} tokens in {elapsed} ms");
            }
        }
    }

    /// Who waits as long as told is admitted, and a millisecond earlier is not.
    #[test]
    fn the_wait_is_exact(rpm in 0_u64..100, tpm in 1_u64..100_000, spent in 0_u64..150_000, wanted in 1_u64..150_000) {
        let (limits, mut buckets, now) = (limits(rpm, tpm), Buckets::default(), 5_000);
        buckets.settle(now, limits, i64::try_from(spent).expect("small"));
        let cost = Cost { requests: 1, tokens: wanted.min(tpm) };
        let told = wait(buckets.debts.tokens, tpm, cost.tokens);
        let after = |mut buckets: Buckets, millis: u64| buckets.admit(now + millis, limits, cost).admitted;
        let told = u64::try_from(told.as_millis()).expect("small");
        prop_assert!(after(buckets, told));
        prop_assert!(told == 0 || !after(buckets, told - 1));
    }

    /// Looking often is the same as looking once.
    #[test]
    fn refusals_cost_nothing(rpm in 1_u64..20, looks in prop::collection::vec(0_u64..4000, 1..40)) {
        let limits = limits(rpm, 0);
        let one = Cost { requests: 1, tokens: 0 };
        let mut often = Buckets::default();
        while often.admit(0, limits, one).admitted {}
        let (mut once, mut now) = (often, 0);
        for pause in looks {
            now += pause;
            often.leak(now, limits);
        }
        once.leak(now, limits);
        prop_assert_eq!(often, once);
    }
}

#[test]
fn a_request_refused_for_tokens_spends_no_request() {
    let (limits, mut buckets) = (limits(10, 100), Buckets::default());
    assert!(buckets.admit(0, limits, Cost { requests: 1, tokens: 100 }).admitted);
    let refused = buckets.admit(0, limits, Cost { requests: 1, tokens: 1 });
    assert!(!refused.admitted);
    assert_eq!(remaining(refused.debts.requests, 10), 9);
}

#[test]
fn what_was_not_used_comes_back_and_what_was_used_beyond_is_owed() {
    let (limits, mut buckets) = (limits(0, 600), Buckets::default());
    let all = Cost { requests: 1, tokens: 600 };
    assert!(buckets.admit(0, limits, all).admitted);
    buckets.settle(0, limits, -500);
    assert_eq!(remaining(buckets.debts.tokens, 600), 500);
    buckets.settle(0, limits, 1700);
    assert_eq!(remaining(buckets.debts.tokens, 600), 0);
    assert_eq!(reset(buckets.debts.tokens, 600), Duration::from_secs(180));
    buckets.settle(0, limits, i64::MAX);
    assert_eq!(reset(buckets.debts.tokens, 600), Duration::from_secs(3600), "no more than an hour is owed");
    buckets.settle(0, limits, i64::MIN);
    assert_eq!(buckets.debts, Debts::default());
}

#[test]
fn numbers_stay_exact_in_f64() {
    let limits = limits(crate::MAX_LIMIT, crate::MAX_LIMIT);
    let mut buckets = Buckets::default();
    buckets.settle(0, limits, i64::MAX);
    assert!(buckets.debts.tokens + crate::MAX_LIMIT * PARTS < 1 << 53);
}

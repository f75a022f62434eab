//! Sampling against a plain f64 reference, and the distribution of many draws.

use proptest::prelude::*;
use vlinders_engine::{Sampled, SamplingParams};

use super::{History, Sampler};

fn params() -> SamplingParams {
    SamplingParams {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition_penalty: 1.0,
        logit_bias: Vec::new(),
        seed: 0,
        logprobs: None,
        prompt_logprobs: None,
        min_tokens: 0,
        suppressed: Vec::new(),
    }
}

/// What a request has said so far.
#[derive(Debug, Clone)]
struct Said {
    prompt: Vec<u32>,
    generated: Vec<u32>,
}

fn draw(logits: &[f32], params: &SamplingParams, said: &Said) -> Result<u32, String> {
    let mut history = History::new(&said.prompt, params);
    said.generated.iter().for_each(|&token| history.push(token));
    match Sampler::default().sample(logits, params, &history, said.generated.len() as u32) {
        Sampled::Token { token, .. } => Ok(token),
        Sampled::Failed(reason) => Err(reason),
    }
}

/// Probabilities after all processors, the slow way: full sorts and f64. Logits are processed in f32, as ours are,
/// so that ties stay ties.
fn reference(logits: &[f32], params: &SamplingParams, said: &Said) -> Vec<f64> {
    let mut logits = logits.to_vec();
    for token in 0..logits.len() as u32 {
        let count = said.generated.iter().filter(|&&t| t == token).count() as f32;
        let logit = &mut logits[token as usize];
        if count > 0.0 || said.prompt.contains(&token) {
            let penalty = params.repetition_penalty;
            *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
        }
        if count > 0.0 {
            *logit -= params.presence_penalty + params.frequency_penalty * count;
        }
        *logit += params.logit_bias.iter().filter(|(t, _)| *t == token).map(|(_, b)| b).sum::<f32>();
        if (said.generated.len() as u32) < params.min_tokens && params.suppressed.contains(&token) {
            *logit = f32::NEG_INFINITY;
        }
    }
    if params.temperature == 0.0 {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let best = logits.iter().position(|&x| x == max).unwrap();
        return (0..logits.len()).map(|i| if i == best { 1.0 } else { 0.0 }).collect();
    }
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
    let mut kept = vec![true; logits.len()];
    if params.top_k > 0 && (params.top_k as usize) < logits.len() {
        let least = logits[order[params.top_k as usize - 1]];
        logits.iter().zip(&mut kept).for_each(|(&x, kept)| *kept = x >= least);
    }
    let max = f64::from(logits[order[0]]);
    let normalised = |kept: &[bool]| -> Vec<f64> {
        let weight = |i: usize| ((f64::from(logits[i]) - max) / f64::from(params.temperature)).exp();
        let weights: Vec<f64> = (0..logits.len()).map(|i| if kept[i] { weight(i) } else { 0.0 }).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    };
    if params.top_p < 1.0 {
        let probabilities = normalised(&kept);
        let mut ahead = 0.0;
        for &i in &order {
            kept[i] &= ahead < f64::from(params.top_p);
            ahead += probabilities[i];
        }
    }
    let probabilities = normalised(&kept);
    let least = probabilities[order[0]] * f64::from(params.min_p);
    for (kept, p) in kept.iter_mut().zip(&probabilities) {
        *kept &= *p >= least;
    }
    normalised(&kept)
}

/// The token at which the running sum passes `u`; `None` when `u` is too close to a border to tell.
fn invert(probabilities: &[f64], u: f64) -> Option<u32> {
    let mut sum = 0.0;
    let mut drawn = None;
    for (i, p) in probabilities.iter().enumerate().filter(|(_, p)| **p > 0.0) {
        sum += p;
        if drawn.is_none() && sum > u {
            drawn = Some(i as u32);
        }
        if (sum - u).abs() < 1e-5 {
            return None;
        }
    }
    drawn
}

/// Whether a small error of a probability would change which tokens are kept.
fn is_stable(logits: &[f32], params: &SamplingParams, said: &Said) -> bool {
    let kept = |top_p: f32, min_p: f32| -> Vec<bool> {
        let params = SamplingParams { top_p, min_p, ..params.clone() };
        reference(logits, &params, said).iter().map(|p| *p > 0.0).collect()
    };
    let down = |x: f32| if x > 0.0 && x < 1.0 { x * (1.0 - 1e-5) } else { x };
    let up = |x: f32| if x > 0.0 && x < 1.0 { (x * (1.0 + 1e-5)).min(1.0) } else { x };
    kept(down(params.top_p), down(params.min_p)) == kept(up(params.top_p), up(params.min_p))
}

/// Logits with many ties, or without any.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec(-15.0f32..15.0, 1..300),
        prop::collection::vec((-6i32..6).prop_map(|x| x as f32 * 0.5), 1..300),
        prop::collection::vec(-3.0f32..3.0, 1500..4000),
    ]
}

fn any_params() -> impl Strategy<Value = SamplingParams> {
    let filters = (
        prop_oneof![Just(0.0f32), Just(1.0), 0.05f32..3.0],
        prop_oneof![Just(1.0f32), 0.01f32..1.0],
        prop_oneof![Just(0u32), 1u32..60, 100u32..3000],
        prop_oneof![Just(0.0f32), 0.001f32..1.0],
    );
    let penalties = (
        prop_oneof![Just(0.0f32), -2.0f32..2.0],
        prop_oneof![Just(0.0f32), -2.0f32..2.0],
        prop_oneof![Just(1.0f32), 0.5f32..2.0],
        prop::collection::btree_map(0u32..40, -100f32..100.0, 0..4),
        0u32..12,
        prop::collection::btree_set(0u32..40, 0..4),
    );
    (filters, penalties, any::<u64>()).prop_map(|(filters, penalties, seed)| SamplingParams {
        temperature: filters.0,
        top_p: filters.1,
        top_k: filters.2,
        min_p: filters.3,
        presence_penalty: penalties.0,
        frequency_penalty: penalties.1,
        repetition_penalty: penalties.2,
        logit_bias: penalties.3.into_iter().collect(),
        min_tokens: penalties.4,
        suppressed: penalties.5.into_iter().collect(),
        seed,
        ..params()
    })
}

fn any_said() -> impl Strategy<Value = Said> {
    let tokens = || prop::collection::vec(0u32..40, 0..12);
    (tokens(), tokens()).prop_map(|(prompt, generated)| Said { prompt, generated })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_draw_is_that_of_the_reference(logits in any_logits(), params in any_params(), said in any_said()) {
        let suppressed = (said.generated.len() as u32) < params.min_tokens;
        prop_assume!(!suppressed || (0..logits.len() as u32).any(|t| !params.suppressed.contains(&t)));
        prop_assume!(is_stable(&logits, &params, &said));
        let probabilities = reference(&logits, &params, &said);
        let token = draw(&logits, &params, &said).unwrap();
        prop_assert!(probabilities[token as usize] > 0.0, "{token} is excluded");
        let u = super::random::uniform(params.seed, said.generated.len() as u32);
        if let Some(expected) = invert(&probabilities, u) {
            prop_assert_eq!(token, expected);
        }
    }

    #[test]
    fn logprobs_are_those_of_the_unmodified_distribution(
        logits in any_logits(),
        token in 0usize..4000,
        top in 0usize..25,
    ) {
        let token = token % logits.len();
        let got = Sampler::default().logprobs(&logits, token as u32, top as u32);
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let total = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln() + max;
        let of = |i: usize| f64::from(logits[i]) - total;
        prop_assert!((f64::from(got.logprob) - of(token)).abs() < 2e-6);
        prop_assert_eq!(got.rank as usize, 1 + logits.iter().filter(|x| **x > logits[token]).count());
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap().then(a.cmp(&b)));
        order.truncate(top);
        prop_assert_eq!(got.top.iter().map(|(id, _)| *id as usize).collect::<Vec<_>>(), order);
        for (id, logprob) in got.top {
            prop_assert!((f64::from(logprob) - of(id as usize)).abs() < 2e-6);
        }
    }
}

const NOTHING: Said = Said { prompt: Vec::new(), generated: Vec::new() };

#[test]
fn many_draws_have_the_distribution_of_the_reference() {
    let logits: Vec<f32> = (0..40).map(|i| ((i * 7919) % 23) as f32 * 0.2 - 2.0).collect();
    let cases = [
        SamplingParams { temperature: 0.8, ..params() },
        SamplingParams { top_k: 8, temperature: 1.3, ..params() },
        SamplingParams { top_p: 0.8, ..params() },
        SamplingParams { min_p: 0.2, temperature: 2.0, ..params() },
        SamplingParams { top_k: 20, top_p: 0.9, min_p: 0.1, ..params() },
    ];
    for case in cases {
        let expected = reference(&logits, &case, &NOTHING);
        let draws = 20_000;
        let mut counts = vec![0u32; logits.len()];
        let mut sampler = Sampler::default();
        for i in 0..draws {
            // one stream for the first half, one stream each for the others
            let (seed, index) = if i % 2 == 0 { (3, i) } else { (u64::from(i), 0) };
            let params = SamplingParams { seed, ..case.clone() };
            match sampler.sample(&logits, &params, &History::default(), index) {
                Sampled::Token { token, .. } => counts[token as usize] += 1,
                Sampled::Failed(reason) => panic!("{reason}"),
            }
        }
        let possible = expected.iter().filter(|p| **p > 0.0).count();
        let chi: f64 = expected
            .iter()
            .zip(&counts)
            .filter(|(p, _)| **p > 0.0)
            .map(|(p, &n)| (f64::from(n) - p * f64::from(draws)).powi(2) / (p * f64::from(draws)))
            .sum();
        assert!(
            expected.iter().zip(&counts).all(|(p, n)| *p > 0.0 || *n == 0),
            "an excluded token was drawn"
        );
        // mean and four standard deviations of chi-square
        let freedom = possible as f64 - 1.0;
        assert!(chi < freedom + 4.0 * (2.0 * freedom).sqrt(), "chi-square {chi} of {freedom} for {case:?}");
    }
}

#[test]
fn greedy_takes_the_lowest_of_equal_ids() {
    let greedy = SamplingParams { temperature: 0.0, ..params() };
    assert_eq!(draw(&[1.0, 3.0, 3.0, 2.0], &greedy, &NOTHING), Ok(1));
    let biased = SamplingParams { logit_bias: vec![(3, 2.0)], ..greedy };
    assert_eq!(draw(&[1.0, 3.0, 3.0, 2.0], &biased, &NOTHING), Ok(3));
}

#[test]
fn logits_that_are_no_numbers_fail_the_request() {
    for temperature in [0.0, 1.0] {
        let params = SamplingParams { temperature, ..params() };
        let mut logits = vec![0.5; 100];
        for position in [0, 13, 99] {
            logits[position] = f32::NAN;
            assert!(draw(&logits, &params, &NOTHING).unwrap_err().contains("not numbers"));
            logits[position] = f32::INFINITY;
            assert!(draw(&logits, &params, &NOTHING).unwrap_err().contains("infinite"));
            logits[position] = f32::NEG_INFINITY;
            assert!(draw(&logits, &params, &NOTHING).is_ok());
        }
    }
}

#[test]
fn when_every_token_is_excluded_the_request_fails() {
    let params = SamplingParams { min_tokens: 2, suppressed: vec![0, 1], ..params() };
    assert!(draw(&[0.0, 1.0], &params, &NOTHING).unwrap_err().contains("excluded"));
    let enough = Said { prompt: vec![], generated: vec![0, 1] };
    assert!(draw(&[0.0, 1.0], &params, &enough).is_ok());
}

#[test]
fn a_draw_depends_on_seed_and_index_alone() {
    let logits: Vec<f32> = (0..1000).map(|i| (i % 17) as f32 * 0.1).collect();
    let mut sampler = Sampler::default();
    let mut stream = |seed: u64| -> Vec<u32> {
        let params = SamplingParams { seed, ..params() };
        (0..20)
            .map(|i| match sampler.sample(&logits, &params, &History::default(), i) {
                Sampled::Token { token, .. } => token,
                Sampled::Failed(reason) => panic!("{reason}"),
            })
            .collect()
    };
    let first = stream(7);
    assert_ne!(first, stream(8));
    assert_eq!(first, stream(7));
}

#[test]
fn extreme_settings_are_harmless() {
    let logits = [-3.0e38f32, 3.0e38, 0.0, 3.0e38];
    for (temperature, top_p, min_p) in [(1e-38, 1.0, 0.0), (1e-38, 1e-9, 1.0), (1e30, 0.999_999, 0.0)] {
        let params = SamplingParams { temperature, top_p, min_p, top_k: 3, ..params() };
        assert!(draw(&logits, &params, &NOTHING).is_ok(), "{params:?}");
    }
    assert_eq!(draw(&[-5.0], &SamplingParams { top_k: 1, top_p: 0.5, ..params() }, &NOTHING), Ok(0));
}

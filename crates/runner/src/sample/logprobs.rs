//! Log-probabilities of the unmodified distribution.

use vlinders_engine::TokenLogprobs;

use super::exp::{exp, sum};
use super::filter::{Candidate, kth_largest, order};
use super::{Sampler, largest};

/// Log-probability and rank of `token`, and the `top` most likely tokens, best first, ties by lower id.
pub(super) fn logprobs(logits: &[f32], token: u32, top: usize, scratch: &mut Sampler) -> TokenLogprobs {
    let Sampler { bound, candidates, weights, .. } = scratch;
    let normaliser = log_sum_exp(logits, weights);
    let of = |logit: f32| (f64::from(logit) - normaliser) as f32;
    let own = logits.get(token as usize).copied().filter(|x| !x.is_nan()).unwrap_or(f32::NEG_INFINITY);
    let above: u32 = logits.iter().map(|&logit| u32::from(logit > own)).sum();
    let top = top.min(logits.len());
    candidates.clear();
    if top > 0 {
        let least = kth_largest(logits, top, bound);
        for (id, &logit) in logits.iter().enumerate() {
            if logit >= least {
                candidates.push(Candidate { logit, id: id as u32, weight: 0.0 });
            }
        }
        if candidates.len() > top {
            candidates.select_nth_unstable_by(top, order);
            candidates.truncate(top);
        }
        candidates.sort_unstable_by(order);
    }
    TokenLogprobs {
        logprob: of(own),
        rank: above + 1,
        top: candidates.iter().map(|c| (c.id, of(c.logit))).collect(),
    }
}

/// `ln(sum(e^x))`, summed in f64.
fn log_sum_exp(logits: &[f32], weights: &mut Vec<f32>) -> f64 {
    let (max, _) = largest(logits);
    if !max.is_finite() {
        return f64::from(max);
    }
    weights.clear();
    weights.extend(logits.iter().map(|&logit| exp(logit - max)));
    f64::from(max) + sum(weights).ln()
}

//! Log-probabilities of the unmodified distribution.

use vlinders_engine::TokenLogprobs;

use super::exp::exp;
use super::filter::{Candidate, kth_largest, order};

/// Log-probability and rank of `token`, and the `top` most likely tokens, best first, ties by lower id.
pub(super) fn logprobs(
    logits: &[f32],
    token: u32,
    top: usize,
    bound: &mut Vec<f32>,
    candidates: &mut Vec<Candidate>,
) -> TokenLogprobs {
    let normaliser = log_sum_exp(logits);
    let of = |logit: f32| (f64::from(logit) - normaliser) as f32;
    let own = logits.get(token as usize).copied().filter(|x| !x.is_nan()).unwrap_or(f32::NEG_INFINITY);
    let above = logits.iter().filter(|&&logit| logit > own).count();
    let top = top.min(logits.len());
    candidates.clear();
    if top > 0 {
        let least = kth_largest(logits, top, bound);
        let kept = logits.iter().enumerate().filter(|(_, logit)| **logit >= least);
        candidates.extend(kept.map(|(id, &logit)| Candidate { logit, id: id as u32, weight: 0.0 }));
        if candidates.len() > top {
            candidates.select_nth_unstable_by(top, order);
            candidates.truncate(top);
        }
        candidates.sort_unstable_by(order);
    }
    TokenLogprobs {
        logprob: of(own),
        rank: above as u32 + 1,
        top: candidates.iter().map(|c| (c.id, of(c.logit))).collect(),
    }
}

/// `ln(sum(e^x))`, summed in f64.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return f64::from(max);
    }
    let (chunks, rest) = logits.as_chunks::<8>();
    let mut lanes = [0f64; 8];
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(exp(logit - max));
        }
    }
    let total = lanes.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(exp(x - max))).sum::<f64>();
    f64::from(max) + total.ln()
}

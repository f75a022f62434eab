//! Temperature, top-k, top-p and min-p, and the draw among what they keep.
//!
//! - top-k keeps the k largest logits, and those equal to the smallest of them;
//! - top-p keeps the smallest set of most likely tokens whose probabilities, among those kept so far, reach p
//!   (a token is kept when those ahead of it have less than p); equal logits are ordered by id;
//! - min-p keeps tokens at least p times as likely as the most likely one.
//!
//! The draw inverts the cumulative distribution in the order of ids.

use vlinders_engine::SamplingParams;

use super::Sampler;
use super::exp::{exp, sum};

/// Tokens that are summed at once while drawing.
const RUN: usize = 512;
/// Bits of a weight that tell no interval apart: 32 intervals for each power of two.
const INTERVAL_SHIFT: u32 = 18;
/// Intervals of weights up to 1.
const INTERVALS: usize = (0x3f80_0000 >> INTERVAL_SHIFT) + 1;

/// A token that may be kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) logit: f32,
    pub(super) id: u32,
    /// Its probability times a constant.
    pub(super) weight: f32,
}

// === impl Sampler ===

impl Sampler {
    /// Filter and draw. `max` is the largest of the logits, `uniform` is in [0, 1).
    pub(super) fn keep_and_draw(
        &mut self,
        logits: &[f32],
        max: f32,
        params: &SamplingParams,
        uniform: f64,
    ) -> Result<u32, &'static str> {
        let top_k = params.top_k as usize;
        let least = match top_k {
            k if k == 0 || k >= logits.len() => f32::NEG_INFINITY,
            k => kth_largest(logits, k, &mut self.bound),
        };
        self.weigh(logits, max, least, params.temperature);
        if params.top_p < 1.0 {
            self.keep_nucleus(logits, f64::from(params.top_p));
        }
        if params.min_p > 0.0 {
            // the most likely token weighs 1
            for weight in &mut self.weights {
                *weight = if *weight >= params.min_p { *weight } else { 0.0 };
            }
        }
        draw(&self.weights, uniform).ok_or("no token can be drawn: every token is excluded")
    }

    /// Weights of all tokens, relative to the most likely one; 0 for logits below `least`.
    fn weigh(&mut self, logits: &[f32], max: f32, least: f32, temperature: f32) {
        self.weights.clear();
        self.weights.extend(logits.iter().map(|&logit| {
            let weight = exp((logit - max) / temperature);
            if logit >= least { weight } else { 0.0 }
        }));
    }

    /// Set the weights of all tokens outside of the nucleus of mass `p` to 0.
    ///
    /// Weights are counted into narrow intervals first, so that only the tokens of one interval need an order.
    fn keep_nucleus(&mut self, logits: &[f32], p: f64) {
        self.masses.clear();
        self.masses.resize(INTERVALS, 0.0);
        for &weight in &self.weights {
            self.masses[interval(weight)] += f64::from(weight);
        }
        let wanted = self.masses.iter().sum::<f64>() * p;
        let (mut ahead, mut border) = (0.0, 0);
        for (i, mass) in self.masses.iter().enumerate().rev().filter(|(_, mass)| **mass > 0.0) {
            border = i;
            if ahead + mass >= wanted {
                break;
            }
            ahead += mass;
        }
        self.candidates.clear();
        for (id, (&weight, &logit)) in self.weights.iter().zip(logits).enumerate() {
            if interval(weight) == border {
                self.candidates.push(Candidate { logit, id: id as u32, weight });
            }
        }
        let Some(last) = nucleus_end(&mut self.candidates, wanted - ahead) else { return };
        for (id, (weight, &logit)) in self.weights.iter_mut().zip(logits).enumerate() {
            let kept = logit > last.logit || (logit == last.logit && id as u32 <= last.id);
            *weight = if kept { *weight } else { 0.0 };
        }
    }
}

/// The interval of a weight in [0, 1]: its exponent and the first bits of its mantissa, so larger weights are never
/// in a lower one.
fn interval(weight: f32) -> usize {
    (weight.to_bits() >> INTERVAL_SHIFT) as usize
}

/// The least likely token of the smallest set, from the most likely on, whose weights reach `wanted`.
///
/// Halves the candidates as quickselect does: of the half that is certain, only the sum is needed.
fn nucleus_end(candidates: &mut [Candidate], wanted: f64) -> Option<Candidate> {
    let mut rest = candidates;
    let mut ahead = 0.0;
    while rest.len() > 1 {
        let middle = rest.len() / 2;
        rest.select_nth_unstable_by(middle, order);
        let (upper, lower) = rest.split_at_mut(middle);
        let with_upper = ahead + upper.iter().map(|c| f64::from(c.weight)).sum::<f64>();
        if with_upper >= wanted {
            rest = upper;
        } else {
            ahead = with_upper;
            rest = lower;
        }
    }
    rest.first().copied()
}

/// Most likely first, ties by lower id.
pub(super) fn order(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(std::cmp::Ordering::Equal).then(a.id.cmp(&b.id))
}

/// The `k`-th largest logit, `1 <= k <= logits.len()`; negative infinity when fewer are numbers.
///
/// Keeps what is above a bound that rises: after a few thousand logits nearly all fail one comparison.
pub(super) fn kth_largest(logits: &[f32], k: usize, kept: &mut Vec<f32>) -> f32 {
    kept.clear();
    let mut bound = f32::NEG_INFINITY;
    let mut limit = (2 * k).max(1024);
    for &logit in logits {
        if logit >= bound {
            kept.push(logit);
            if kept.len() >= limit {
                bound = *kept.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1;
                // equal ones beyond the k-th say nothing new
                kept.truncate(k);
                limit = limit.max(2 * k);
            }
        }
    }
    if kept.len() < k {
        return f32::NEG_INFINITY;
    }
    *kept.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// The token at which the running sum of weights passes `uniform` of their total.
fn draw(weights: &[f32], uniform: f64) -> Option<u32> {
    let sums: Vec<f64> = weights.chunks(RUN).map(sum).collect();
    let target = uniform * sums.iter().sum::<f64>();
    let mut before = 0.0;
    let mut last = None;
    for (run, (chunk, sum)) in weights.chunks(RUN).zip(sums).enumerate() {
        if sum == 0.0 {
            continue;
        }
        if before + sum <= target {
            // rounding may leave the target behind the very last token: then it is that one
            last = chunk.iter().rposition(|&w| w > 0.0).map(|i| run * RUN + i);
            before += sum;
            continue;
        }
        for (i, &weight) in chunk.iter().enumerate() {
            if weight > 0.0 {
                before += f64::from(weight);
                last = Some(run * RUN + i);
                if before > target {
                    break;
                }
            }
        }
        break;
    }
    last.map(|id| id as u32)
}

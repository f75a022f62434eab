//! What every operation computes, in plain f64 loops over plain slices: the yardstick of the tests.
//!
//! All arrays are row major. Results are f64, so that a kernel's own rounding shows.

use crate::attention::AttentionSpec;

/// `x w^T + bias`: `x` is `[n, in]`, `w` is `[out, in]`, `bias` is `[out]`.
#[must_use]
pub fn linear(x: &[f32], w: &[f32], bias: Option<&[f32]>, inn: usize) -> Vec<f64> {
    let rows = x.chunks_exact(inn);
    rows.flat_map(|x| {
        w.chunks_exact(inn).enumerate().map(move |(o, w)| dot(x, w) + bias.map_or(0.0, |b| f64::from(b[o])))
    })
    .collect()
}

/// Rows `ids` of `table` `[vocabulary, hidden]`.
#[must_use]
pub fn embedding(ids: &[u32], table: &[f32], hidden: usize) -> Vec<f64> {
    ids.iter().flat_map(|id| table[*id as usize * hidden..][..hidden].iter().map(|v| f64::from(*v))).collect()
}

/// `x / sqrt(mean(x^2) + eps) * weight` for rows of `weight.len()`.
#[must_use]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f64) -> Vec<f64> {
    x.chunks_exact(weight.len())
        .flat_map(|x| {
            let scale = 1.0 / (dot(x, x) / x.len() as f64 + eps).sqrt();
            x.iter().zip(weight).map(move |(x, w)| f64::from(*x) * scale * f64::from(*w))
        })
        .collect()
}

/// [`rms_norm`] of `x + residual`, and that sum.
#[must_use]
pub fn add_rms_norm(x: &[f32], residual: &[f32], weight: &[f32], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let sum: Vec<f32> = x.iter().zip(residual).map(|(x, r)| x + r).collect();
    (rms_norm(&sum, weight, eps), sum.iter().map(|s| f64::from(*s)).collect())
}

/// Half-split rotation of `x` `[n, heads, d]`; `cos` and `sin` are `[max_pos, half]`.
#[must_use]
pub fn rope(x: &[f32], cos: &[f32], sin: &[f32], positions: &[u32], d: usize, half: usize) -> Vec<f64> {
    let mut out: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let heads = x.len() / positions.len().max(1) / d;
    for (row, turned) in out.chunks_exact_mut(d).enumerate() {
        let angle = positions[row / heads] as usize * half;
        for i in 0..half {
            let (c, s) = (f64::from(cos[angle + i]), f64::from(sin[angle + i]));
            let (a, b) = (turned[i], turned[half + i]);
            turned[i] = a * c - b * s;
            turned[half + i] = b * c + a * s;
        }
    }
    out
}

/// `silu(left) * right` for rows of `2 * i`.
#[must_use]
pub fn silu_mul(gate_up: &[f32], i: usize) -> Vec<f64> {
    gate_up
        .chunks_exact(2 * i)
        .flat_map(|row| {
            let (gate, up) = row.split_at(i);
            gate.iter().zip(up).map(|(g, u)| f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u))
        })
        .collect()
}

/// Attention of one query head `q` `[d]` at `position` over `k` and `v` `[positions, d]` of its KV head.
#[must_use]
pub fn attention(q: &[f32], k: &[f32], v: &[f32], position: usize, spec: &AttentionSpec) -> Vec<f64> {
    let d = q.len();
    let seen = spec.window.map_or(0, |w| (position + 1).saturating_sub(w))..position + 1;
    let row = |of: &[f32], p: usize| of[p * d..(p + 1) * d].to_vec();
    let scores: Vec<f64> = seen
        .clone()
        .map(|p| {
            let score = dot(q, &row(k, p)) * f64::from(spec.scale);
            spec.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
        })
        .collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; d];
    for (p, weight) in seen.zip(weights) {
        for (o, v) in out.iter_mut().zip(row(v, p)) {
            *o += weight / total * f64::from(v);
        }
    }
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

//! Routing, experts and their sum against the plain form, token by token.

use super::*;
use crate::testing::{assert_close, noise};
use crate::{Format, silu_mul};

fn tensor(values: &[f32], rows: usize) -> Tensor {
    Tensor::from_slice(values, (rows, values.len() / rows.max(1)), &Device::Cpu).unwrap()
}

fn matrices(seed: u64, count: usize, out: usize, inn: usize) -> (Vec<f32>, Vec<Arc<PackedWeight>>) {
    let values = noise(seed, count * out * inn);
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let whole = Arc::new(PackedWeight::pack(Format::F32, count * out, inn, &bytes).unwrap());
    let part = |e| Arc::new(PackedWeight::part(&whole, e * out..(e + 1) * out).unwrap());
    (values, (0..count).map(part).collect())
}

fn times(w: &[f32], x: &[f64]) -> Vec<f64> {
    w.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
}

/// Experts and weights of a token.
fn best(logits: &[f32], top_k: usize, renormalise: bool) -> Vec<(usize, f64)> {
    let exps: Vec<f64> = logits.iter().map(|x| f64::from(*x).exp()).collect();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    order.truncate(top_k);
    let all: f64 = if renormalise { order.iter().map(|e| exps[*e]).sum() } else { exps.iter().sum() };
    order.into_iter().map(|e| (e, exps[e] / all)).collect()
}

#[test]
fn each_token_gets_the_weighted_sum_of_its_experts() {
    let (hidden, inner) = (32, 24);
    for (seed, (tokens, experts, top_k, renormalise)) in
        [(1, 4, 2, true), (17, 5, 1, false), (40, 8, 8, true), (9, 60, 4, false)].into_iter().enumerate()
    {
        let (w_in, gate_up) = matrices(7, experts, 2 * inner, hidden);
        let (w_out, down) = matrices(8, experts, hidden, inner);
        let x = noise(seed as u64, tokens * hidden);
        // Some logits are equal, so that ties are broken.
        let logits: Vec<f32> = noise(9, tokens * experts).iter().map(|x| (x * 9.0).round() * 0.5).collect();
        let routing = route(&tensor(&logits, tokens), top_k, renormalise).unwrap();
        let copies: Vec<f32> =
            routing.tokens().iter().flat_map(|t| x[*t as usize * hidden..][..hidden].to_vec()).collect();
        let inside = expert_linear(&tensor(&copies, tokens * top_k), &gate_up, &routing).unwrap();
        let said = expert_linear(&silu_mul(&inside).unwrap(), &down, &routing).unwrap();
        let y = combine(&said, &routing).unwrap();
        let exact: Vec<f64> = (0..tokens)
            .flat_map(|token| {
                let own: Vec<f64> = x[token * hidden..][..hidden].iter().map(|x| f64::from(*x)).collect();
                let mut sum = vec![0.0; hidden];
                for (e, weight) in best(&logits[token * experts..][..experts], top_k, renormalise) {
                    let both = times(&w_in[e * 2 * inner * hidden..][..2 * inner * hidden], &own);
                    let (gate, up) = both.split_at(inner);
                    let gated: Vec<f64> =
                        gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                    let out = times(&w_out[e * hidden * inner..][..hidden * inner], &gated);
                    sum.iter_mut().zip(out).for_each(|(sum, x)| *sum += weight * x);
                }
                sum
            })
            .collect();
        assert_close(&y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &exact, 1e-5);
    }
}

#[test]
fn a_token_has_the_same_bits_alone_and_among_others() {
    let (tokens, experts, top_k, hidden) = (23, 6, 2, 32);
    let (_, matrices) = matrices(3, experts, 48, hidden);
    let (x, logits) = (noise(4, tokens * hidden), noise(5, tokens * experts));
    let run = |tokens: std::ops::Range<usize>| -> Vec<u32> {
        let routing =
            route(&tensor(&logits[tokens.start * experts..tokens.end * experts], tokens.len()), top_k, true);
        let routing = routing.unwrap();
        let own = &x[tokens.start * hidden..tokens.end * hidden];
        let copies: Vec<f32> =
            routing.tokens().iter().flat_map(|t| own[*t as usize * hidden..][..hidden].to_vec()).collect();
        let said = expert_linear(&tensor(&copies, tokens.len() * top_k), &matrices, &routing).unwrap();
        let y = combine(&said, &routing).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        y.into_iter().map(f32::to_bits).collect()
    };
    let together = run(0..tokens);
    let alone: Vec<u32> = (0..tokens).flat_map(|token| run(token..token + 1)).collect();
    assert_eq!(together, alone);
}

#[test]
fn logits_that_are_no_numbers_come_last() {
    let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, 2.0];
    let routing = route(&tensor(&logits, 1), 2, true).unwrap();
    assert_eq!(routing.offsets, [0, 0, 1, 1, 2], "experts 1 and 3");
}

#[test]
fn what_does_not_fit_is_refused() {
    let (_, matrices) = matrices(1, 3, 16, 8);
    let routing = route(&tensor(&[1.0, 2.0, 3.0], 1), 2, true).unwrap();
    assert!(route(&tensor(&[1.0, 2.0], 1), 3, true).is_err(), "more than there are");
    assert!(expert_linear(&tensor(&[0.0; 8], 1), &matrices, &routing).is_err(), "two places");
    assert!(expert_linear(&tensor(&[0.0; 16], 2), &matrices[..2], &routing).is_err(), "three experts");
    assert!(combine(&tensor(&[0.0; 8], 1), &routing).is_err());
    let whole = Arc::new(PackedWeight::pack(Format::F32, 20, 1, &[0; 80]).unwrap());
    assert!(PackedWeight::part(&whole, 0..16).is_ok());
    for rows in [0..20, 8..16, 16..32, 16..16] {
        assert!(PackedWeight::part(&whole, rows.clone()).is_err(), "{rows:?}");
    }
}

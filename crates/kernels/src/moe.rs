//! Mixtures of experts on the CPU: which experts a token goes to, products with the matrix of each, and their sum.
//!
//! Each token has `top_k` copies, one for each of its experts. Copies lie so that those of an expert are side by side, by token: an
//! expert then is one product of its rows.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::element::LANES;
use crate::error::{KernelError, Result};
use crate::pool::parallel_rows;
use crate::simd::{Isa, Lanes, exp, multiversion};
use crate::tensor::{Shared, activations, filled, read};
use crate::{PackedWeight, linear};

/// Where tokens go.
#[derive(Debug, Clone)]
pub struct Routing {
    top_k: usize,
    /// What is multiplied with the outputs of each token's experts, best first: `[tokens * top_k]`.
    weights: Vec<f32>,
    /// The first place of each expert, and the number of places.
    offsets: Vec<usize>,
    /// The token at each place.
    tokens: Vec<u32>,
    /// The place of each copy.
    places: Vec<usize>,
}

/// Route tokens by the router's `logits` `[tokens, experts]`: softmax over all experts, then the `top_k` most likely ones, ties by
/// lower number. Their probabilities are the weights; with `renormalise`, divided by their sum.
///
/// # Errors
/// Shapes that do not fit.
pub fn route(logits: &Tensor, top_k: usize, renormalise: bool) -> Result<Routing> {
    const OP: &str = "route";
    let logits = activations(OP, "logits", logits)?;
    let (tokens, experts) = match *logits.dims() {
        [tokens, experts] if top_k > 0 && top_k <= experts => (tokens, experts),
        ref dims => {
            let problem = format!("logits are {dims:?}, a token can not go to {top_k} experts");
            return Err(KernelError::shape(OP, problem));
        }
    };
    let held = read(&logits);
    let mut weights = Vec::with_capacity(tokens * top_k);
    let mut chosen = Vec::with_capacity(tokens * top_k);
    let mut order: Vec<u32> = Vec::with_capacity(experts);
    let mut row = vec![f32::NEG_INFINITY; experts.next_multiple_of(LANES)];
    for numbers in held.floats()?.chunks_exact(experts) {
        // What is no number comes last.
        let key = |expert: u32| {
            let number = numbers[expert as usize];
            if number.is_nan() { f32::NEG_INFINITY } else { number }
        };
        order.clear();
        order.extend(0..experts as u32);
        let by_size = |a: &u32, b: &u32| key(*b).total_cmp(&key(*a)).then(a.cmp(b));
        order.select_nth_unstable_by(top_k - 1, by_size);
        order.truncate(top_k);
        order.sort_unstable_by(by_size);
        let largest = key(order[0]);
        row[..experts].copy_from_slice(numbers);
        // SAFETY: the row is whole registers.
        unsafe { exp_row(Isa::detect(), row.as_mut_ptr(), row.len(), largest) };
        let all: f32 = if renormalise {
            order.iter().map(|expert| row[*expert as usize]).sum()
        } else {
            row[..experts].iter().sum()
        };
        weights.extend(order.iter().map(|expert| row[*expert as usize] / all));
        chosen.extend_from_slice(&order);
    }
    Ok(Routing::new(top_k, experts, weights, &chosen))
}

/// # Safety
/// `row` is valid for `len` elements, a multiple of sixteen.
#[inline(always)]
unsafe fn exp_row_body<L: Lanes>(row: *mut f32, len: usize, largest: f32) {
    // SAFETY: every access is to sixteen elements from `i < len` on.
    unsafe {
        for i in (0..len).step_by(LANES) {
            exp(L::load(row.add(i)).sub(L::splat(largest))).store(row.add(i));
        }
    }
}
multiversion! { unsafe fn exp_row(row: *mut f32, len: usize, largest: f32) = exp_row_body }

/// `x w^T` `[n, out]`, where rows of `x` `[n, in]` belong to experts as `routing` has placed them, and `experts` has the matrix of each.
///
/// # Errors
/// Shapes that do not fit.
pub fn expert_linear(x: &Tensor, experts: &[Arc<PackedWeight>], routing: &Routing) -> Result<Tensor> {
    const OP: &str = "expert_linear";
    if experts.len() + 1 != routing.offsets.len() || x.dims().first() != Some(&routing.tokens.len()) {
        let (found, places) = (experts.len(), routing.tokens.len());
        return Err(KernelError::shape(OP, format!("{x:?} and {found} matrices for {places} places")));
    }
    let mut parts = Vec::new();
    for (expert, range) in experts.iter().zip(routing.offsets.windows(2)) {
        let (first, len) = (range[0], range[1] - range[0]);
        if len > 0 {
            parts.push(linear(&x.narrow(0, first, len)?, expert, None)?);
        }
    }
    match parts.as_slice() {
        [] => Ok(Tensor::zeros((0, experts.first().map_or(0, |e| e.out_features())), x.dtype(), x.device())?),
        [only] => Ok(only.clone()),
        all => Ok(Tensor::cat(all, 0)?),
    }
}

/// For each token the weighted sum of what its experts say, best expert first. `x` is `[tokens * top_k, d]`, by place; the result is
/// `[tokens, d]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn combine(x: &Tensor, routing: &Routing) -> Result<Tensor> {
    const OP: &str = "combine";
    let x = activations(OP, "x", x)?;
    let width = match *x.dims() {
        [places, width] if places == routing.tokens.len() => width,
        ref dims => {
            let places = routing.tokens.len();
            return Err(KernelError::shape(OP, format!("x is {dims:?}, it must have {places} rows")));
        }
    };
    let held = read(&x);
    let (said, top_k) = (held.floats()?, routing.top_k);
    let tokens = routing.tokens.len() / top_k;
    // SAFETY: each of the rows is written in full, by one chunk.
    let sums = unsafe {
        filled(tokens * width, |out| {
            let out = Shared::new(out);
            parallel_rows(tokens, top_k * width, &|rows| {
                for token in rows {
                    for column in 0..width {
                        let copies = token * top_k..(token + 1) * top_k;
                        let sum = copies.fold(0.0, |sum: f32, copy| {
                            routing.weights[copy].mul_add(said[routing.places[copy] * width + column], sum)
                        });
                        out.get().add(token * width + column).write(sum);
                    }
                }
            })
        })?
    };
    Ok(Tensor::from_vec(sums, (tokens, width), &Device::Cpu)?)
}

// === impl Routing ===

impl Routing {
    /// `chosen` has the experts of each token, best first.
    fn new(top_k: usize, experts: usize, weights: Vec<f32>, chosen: &[u32]) -> Self {
        let mut offsets = vec![0; experts + 1];
        for expert in chosen {
            offsets[*expert as usize + 1] += 1;
        }
        for expert in 0..experts {
            offsets[expert + 1] += offsets[expert];
        }
        let mut next = offsets.clone();
        let mut tokens = vec![0; chosen.len()];
        let mut places = Vec::with_capacity(chosen.len());
        for (copy, expert) in chosen.iter().enumerate() {
            let place = next[*expert as usize];
            next[*expert as usize] += 1;
            tokens[place] = (copy / top_k) as u32;
            places.push(place);
        }
        Self { top_k, weights, offsets, tokens, places }
    }

    /// The token at each place.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

#[cfg(test)]
mod tests;

//! From logits to a token: processors in the order of Hugging Face transformers, then a draw.
//!
//! Nothing is sorted in full: a vocabulary has 128,000 entries and a step has many rows. The order is repetition,
//! presence and frequency penalty, bias, minimum length, temperature, top-k, top-p, min-p.
//! The draw depends on the logits, the seed and the number of generated tokens alone.

mod exp;
mod filter;
mod history;
mod logprobs;
mod random;

use vlinders_engine::{Sampled, SamplingParams, TokenLogprobs};

pub use self::history::History;
pub(crate) use self::history::changes;

/// Draws tokens; keeps scratch memory between calls.
#[derive(Debug, Default)]
pub struct Sampler {
    processed: Vec<f32>,
    weights: Vec<f32>,
    candidates: Vec<filter::Candidate>,
    bound: Vec<f32>,
    masses: Vec<f64>,
}

// === impl Sampler ===

impl Sampler {
    /// Draw the token that follows. `logits` is `[vocab]`; `num_generated` tokens came before it.
    pub fn sample(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
        history: &History,
        num_generated: u32,
    ) -> Sampled {
        let mut processed = std::mem::take(&mut self.processed);
        let outcome = if history::changes(params, num_generated) {
            processed.clear();
            processed.extend_from_slice(logits);
            history::apply(&mut processed, params, history, num_generated);
            self.choose(&processed, params, num_generated)
        } else {
            self.choose(logits, params, num_generated)
        };
        self.processed = processed;
        match outcome {
            Ok(token) => {
                let logprobs = params.logprobs.map(|top| Box::new(self.logprobs(logits, token, top)));
                Sampled::Token { token, logprobs }
            }
            Err(reason) => Sampled::Failed(reason.to_owned()),
        }
    }

    /// The log-probability of `token` in the unmodified distribution, its rank, and the `top` most likely tokens.
    pub fn logprobs(&mut self, logits: &[f32], token: u32, top: u32) -> TokenLogprobs {
        logprobs::logprobs(logits, token, top as usize, self)
    }

    /// Choose among processed logits.
    fn choose(
        &mut self,
        logits: &[f32],
        params: &SamplingParams,
        num_generated: u32,
    ) -> Result<u32, &'static str> {
        let max = maximum(logits)?;
        if params.temperature == 0.0 {
            return position_of(logits, max).ok_or("no token has the largest logit");
        }
        let uniform = random::uniform(params.seed, num_generated);
        self.keep_and_draw(logits, max, params, uniform)
    }
}

/// The largest logit, when a distribution can be made of them.
fn maximum(logits: &[f32]) -> Result<f32, &'static str> {
    match largest(logits) {
        (_, true) => Err("the model gave logits that are not numbers"),
        (f32::NEG_INFINITY, _) => Err("no token can be drawn: every token is excluded"),
        (f32::INFINITY, _) => Err("the model gave logits that are infinite"),
        (max, _) => Ok(max),
    }
}

/// The largest logit that is a number, and whether any is not.
fn largest(logits: &[f32]) -> (f32, bool) {
    // eight lanes, which become vector instructions
    let mut lanes = [f32::NEG_INFINITY; 8];
    let mut not_numbers = [0u32; 8];
    let (chunks, rest) = logits.as_chunks::<8>();
    for chunk in chunks {
        for i in 0..8 {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
            not_numbers[i] |= u32::from(chunk[i].is_nan());
        }
    }
    let max = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    (max, not_numbers != [0; 8] || rest.iter().any(|x| x.is_nan()))
}

/// The lowest id with this logit.
fn position_of(logits: &[f32], value: f32) -> Option<u32> {
    logits.iter().position(|&x| x == value).map(|i| i as u32)
}

#[cfg(test)]
mod tests;

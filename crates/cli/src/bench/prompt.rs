//! What each request asks: a prompt of random words and a number of tokens to answer with.
//!
//! Request `idx` of a seed is always the same, whatever was sent before it.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::calibrate::Calibration;
use crate::args::{BenchArgs, LengthRange};

/// Makes the requests of a run.
#[derive(Debug)]
pub(super) struct Prompts {
    calibration: Calibration,
    input_len: LengthRange,
    output_len: LengthRange,
    seed: u64,
    shared_prefix: String,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) max_tokens: usize,
}

impl Prompts {
    pub(super) fn new(args: &BenchArgs, seed: u64, calibration: Calibration) -> Self {
        let mut prefix_rng = stream(seed, u64::MAX);
        let shared_prefix = match args.shared_prefix {
            0 => String::new(),
            tokens => calibration.beginning(tokens, &mut prefix_rng),
        };
        Self { calibration, input_len: args.input_len, output_len: args.output_len, seed, shared_prefix }
    }

    /// Request number `idx`.
    pub(super) fn get(&self, idx: u64) -> Prompt {
        let mut rng = stream(self.seed, idx);
        let tokens = rng.random_range(self.input_len.min..=self.input_len.max);
        let max_tokens = rng.random_range(self.output_len.min..=self.output_len.max);
        let text = if self.shared_prefix.is_empty() {
            self.calibration.beginning(tokens, &mut rng)
        } else {
            let mut text = self.shared_prefix.clone();
            self.calibration.extend(&mut text, tokens, &mut rng);
            text
        };
        Prompt { text, max_tokens }
    }
}

/// Independent random numbers for each request.
pub(super) fn stream(seed: u64, idx: u64) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&idx.to_le_bytes());
    StdRng::from_seed(key)
}

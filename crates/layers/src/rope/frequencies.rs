//! Frequencies of each kind of rotary embedding, in radians per position.
//!
//! Rounded to f32 where Hugging Face transformers rounds, so that angles agree at long positions.

use std::f64::consts::PI;

use super::{RopeConfig, RopeKind};

/// The `rotated / 2` frequencies that apply to the last token of a sequence of `length` tokens.
pub(super) fn frequencies(config: &RopeConfig, rotated: usize, length: usize) -> Vec<f32> {
    let theta = config.theta;
    match config.kind {
        RopeKind::Default => inverse(theta, rotated).collect(),
        RopeKind::Linear { factor } => inverse(theta, rotated).map(|f| f / factor as f32).collect(),
        RopeKind::Divided { ref factors } => {
            inverse(theta, rotated).zip(factors).map(|(f, factor)| f / *factor as f32).collect()
        }
        RopeKind::Dynamic { factor } => {
            let max = config.max_position_embeddings as f64;
            let stretch = factor * (length as f64).max(max) / max - (factor - 1.0);
            let rotated_f = rotated as f64;
            inverse(theta * stretch.powf(rotated_f / (rotated_f - 2.0)), rotated).collect()
        }
        RopeKind::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let scale = |frequency: f32| {
                let frequency = f64::from(frequency);
                let wavelength = 2.0 * PI / frequency;
                let scaled = if wavelength > original / low_freq_factor {
                    frequency / factor
                } else if wavelength < original / high_freq_factor {
                    frequency
                } else {
                    let smooth =
                        (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                scaled as f32
            };
            inverse(theta, rotated).map(scale).collect()
        }
        RopeKind::Yarn { factor, original, beta_fast, beta_slow, truncate, .. } => {
            let dim = rotated as f64;
            // the dimension at which a wave turns this often in the original context
            let dimension_of = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
            let (mut low, mut high) = (dimension_of(beta_fast), dimension_of(beta_slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
            if low == high {
                high += 0.001;
            }
            let blend = |(i, frequency): (usize, f32)| {
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                let frequency = f64::from(frequency);
                (frequency / factor * ramp + frequency * (1.0 - ramp)) as f32
            };
            inverse(theta, rotated).enumerate().map(blend).collect()
        }
    }
}

/// `theta ^ (-2i / rotated)`.
fn inverse(theta: f64, rotated: usize) -> impl Iterator<Item = f32> {
    (0..rotated).step_by(2).map(move |i| {
        let exponent = i as f32 / rotated as f32;
        1.0 / theta.powf(f64::from(exponent)) as f32
    })
}

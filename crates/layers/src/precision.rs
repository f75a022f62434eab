//! In which format weights are kept in memory: as the files have them, or as was asked for.

use candle_core::DType;
use vlinders_kernels::{Format, Stored, has_bf16_products};

use crate::MatrixKind;

/// How many bits a quantised weight has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// Eight, with a scale for each 32: 8.5 in all.
    Q8,
    /// Four, with a scale for each 32: 4.5 in all. Tables of tokens keep eight.
    Q4,
}

/// How activations meet weights of bf16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activations {
    /// Rounded to bf16 where the processor multiplies pairs of bf16, which doubles its speed; else as they are.
    #[default]
    Auto,
    /// As they are, in f32.
    F32,
}

/// What was asked for; by default weights stay as the files have them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Precision {
    /// F32, F16 or BF16 for all weights that are not quantised; those that are in the files are widened to it.
    pub dtype: Option<DType>,
    /// Quantise all matrices.
    pub quantization: Option<Quantization>,
    /// Whether activations may be rounded.
    pub activations: Activations,
}

// === impl Precision ===

impl Precision {
    /// Whether activations are rounded to bf16 before they meet weights of bf16.
    #[must_use]
    pub fn rounds_activations(&self) -> bool {
        self.activations == Activations::Auto && has_bf16_products()
    }

    /// The format of a matrix whose parts are encoded as `parts` in the files.
    #[must_use]
    pub fn format(&self, kind: MatrixKind, parts: &[Stored]) -> Format {
        match (self.quantization, kind) {
            (Some(Quantization::Q8), _) | (Some(Quantization::Q4), MatrixKind::Table) => return Format::Q8,
            (Some(Quantization::Q4), MatrixKind::Linear) => return Format::Q4,
            (None, _) => {}
        }
        if let Some(format) = self.dtype.and_then(Format::from_dtype) {
            return format;
        }
        // Parts that differ share the format that has room for all of them.
        let rank = |format: &Format| match format {
            Format::Q4 => 0,
            Format::Q8 => 1,
            Format::F16 | Format::BF16 => 2,
            Format::F32 => 3,
        };
        parts.iter().map(|stored| natural(*stored)).max_by_key(rank).unwrap_or(Format::F32)
    }
}

/// The smallest format that holds what the file has.
fn natural(stored: Stored) -> Format {
    match stored {
        Stored::F32 => Format::F32,
        Stored::F16 => Format::F16,
        Stored::BF16 => Format::BF16,
        Stored::Q4_0 => Format::Q4,
        Stored::Q8_0
        | Stored::Q4_1
        | Stored::Q5_0
        | Stored::Q5_1
        | Stored::Q4_K
        | Stored::Q5_K
        | Stored::Q6_K => Format::Q8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        dtype: Option<DType>,
        quantization: Option<Quantization>,
        parts: &[Stored],
        expect: [Format; 2],
    ) {
        let precision = Precision { dtype, quantization, ..Precision::default() };
        let found = [MatrixKind::Linear, MatrixKind::Table].map(|kind| precision.format(kind, parts));
        assert_eq!(found, expect, "{precision:?} {parts:?}");
    }

    #[test]
    fn what_is_asked_for_wins_over_what_is_in_the_files() {
        let (bf16, q4) = (Some(DType::BF16), Some(Quantization::Q4));
        check(None, None, &[Stored::F16], [Format::F16; 2]);
        check(bf16, None, &[Stored::F32], [Format::BF16; 2]);
        check(bf16, None, &[Stored::Q4_K], [Format::BF16; 2]);
        check(None, Some(Quantization::Q8), &[Stored::F32], [Format::Q8; 2]);
        check(bf16, q4, &[Stored::BF16], [Format::Q4, Format::Q8]);
    }

    #[test]
    fn parts_that_differ_share_the_wider_format() {
        check(None, None, &[Stored::Q4_0, Stored::Q4_0], [Format::Q4; 2]);
        check(None, None, &[Stored::Q4_0, Stored::Q6_K], [Format::Q8; 2]);
        check(None, None, &[Stored::Q8_0, Stored::BF16, Stored::Q4_0], [Format::BF16; 2]);
    }
}

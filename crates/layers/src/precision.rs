//! In which format weights are kept in memory: as the files have them, or as was asked for.

use candle_core::DType;
use vlinders_kernels::gpu::GpuFormat;
use vlinders_kernels::{Format, Stored, has_bf16_products};

use crate::MatrixKind;

/// Numbers of a block with a scale of its own.
const SHORT_BLOCK: usize = 32;

/// How many bits a quantised weight has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// Eight, with a scale for each 32: 8.5 in all.
    Q8,
    /// Four, with a scale and a minimum for each 32: 4.6 in all; tables of tokens have six. Where the rows of a matrix are no
    /// multiple of 256: four with a scale for each 32, and eight.
    Q4,
    /// Floats of eight bits with a scale for each row; tables of tokens stay as they are. On GPUs alone.
    Fp8,
}

/// How activations meet weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activations {
    /// On the CPU rounded to bf16 where weights are bf16 and the processor multiplies pairs of them, which doubles its speed; else as
    /// they are.
    #[default]
    Auto,
    /// As they are, on the CPU in f32.
    F32,
    /// Rounded to floats of eight bits, with a scale for each token, where they meet matrices of [`Quantization::Fp8`] that are not those of
    /// experts. On GPUs that multiply such numbers alone.
    Fp8,
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
    /// The type of activations when the weights will be on a GPU, whose kernels know fewer formats.
    pub on_gpu: Option<DType>,
}

// === impl Precision ===

impl Precision {
    /// Whether activations are rounded to bf16 before they meet weights of bf16.
    #[must_use]
    pub fn rounds_activations(&self) -> bool {
        self.activations == Activations::Auto && has_bf16_products()
    }

    /// Whether activations are rounded to eight bits before they meet a matrix of this format on a GPU.
    #[must_use]
    pub fn rounds_to_eight_bits(&self, kind: MatrixKind, format: Format) -> bool {
        self.activations == Activations::Fp8 && kind == MatrixKind::Linear && format == Format::Fp8
    }

    /// The format of a matrix with rows of `cols` numbers, whose parts are encoded as `parts` in the files.
    #[must_use]
    pub fn format(&self, kind: MatrixKind, cols: usize, parts: &[Stored]) -> Format {
        if kind == MatrixKind::Router && self.quantization.is_some() {
            return Self { quantization: None, ..*self }.format(kind, cols, parts);
        }
        if let Some(activations) = self.on_gpu {
            return self.format_on_gpu(kind, parts, activations);
        }
        // Formats with common scales share them among 256 numbers of a row.
        let fits = |format: Format| cols.is_multiple_of(format.stored().block_len());
        let first_that_fits = |formats: [Format; 2]| if fits(formats[0]) { formats[0] } else { formats[1] };
        match (self.quantization, kind) {
            (Some(Quantization::Q8), _) => return Format::Q8,
            (Some(Quantization::Fp8), _) => return Format::Fp8,
            (Some(Quantization::Q4), MatrixKind::Table) => return first_that_fits([Format::Q6K, Format::Q8]),
            (Some(Quantization::Q4), MatrixKind::Linear) => {
                return first_that_fits([Format::Q4K, Format::Q4]);
            }
            (_, MatrixKind::Router) | (None, _) => {}
        }
        if let Some(format) = self.dtype.and_then(Format::from_dtype) {
            return format;
        }
        let format = parts.iter().map(|stored| natural(*stored)).reduce(room_for_both).unwrap_or(Format::F32);
        if format == Format::Fp8 {
            // No kernel of the CPU reads it.
            return Format::Q8;
        }
        // A rank may have a part of each row that no longer is whole blocks; short ones are filled up.
        if fits(format) || format.stored().block_len() <= SHORT_BLOCK { format } else { Format::Q8 }
    }

    /// As above, among the formats that kernels on GPUs read: weights that are not quantised have the type of activations.
    fn format_on_gpu(&self, kind: MatrixKind, parts: &[Stored], activations: DType) -> Format {
        let plain = Format::from_dtype(activations).unwrap_or(Format::BF16);
        match (self.quantization, kind) {
            (Some(Quantization::Q4), MatrixKind::Linear) => return Format::Q4,
            (Some(Quantization::Q8), _) | (Some(Quantization::Q4), MatrixKind::Table) => return Format::Q8,
            (Some(Quantization::Fp8), MatrixKind::Linear) => return Format::Fp8,
            // A table that is rounded to three bits of mantissa costs more than it saves.
            (Some(Quantization::Fp8), MatrixKind::Table) | (_, MatrixKind::Router) | (None, _) => {}
        }
        if self.dtype.is_some() {
            return plain;
        }
        match parts.iter().map(|stored| natural(*stored)).reduce(room_for_both) {
            None | Some(Format::F32 | Format::F16 | Format::BF16) => plain,
            Some(format @ (Format::Q8 | Format::Q4 | Format::Fp8)) => format,
            // Codes with common scales are rounded again, to eight bits.
            Some(Format::Q4K | Format::Q5K | Format::Q6K) => Format::Q8,
        }
    }

    /// Bytes of a matrix in memory; `None` when that is more than can be counted, or it can not be there.
    #[must_use]
    pub(crate) fn bytes(&self, format: Format, rows: usize, cols: usize) -> Option<usize> {
        if self.on_gpu.is_some() {
            GpuFormat::try_from(format).ok()?.num_bytes(rows, cols)
        } else {
            format.packed_bytes(rows, cols)
        }
    }
}

/// The smallest format that holds what the file has.
fn natural(stored: Stored) -> Format {
    match stored {
        Stored::F32 => Format::F32,
        Stored::F16 => Format::F16,
        Stored::BF16 => Format::BF16,
        Stored::F8_E4M3 => Format::Fp8,
        Stored::Q4_0 => Format::Q4,
        Stored::Q4_K => Format::Q4K,
        Stored::Q5_K => Format::Q5K,
        Stored::Q6_K => Format::Q6K,
        Stored::Q8_0 | Stored::Q4_1 | Stored::Q5_0 | Stored::Q5_1 => Format::Q8,
    }
}

/// The format that parts of two formats share. Codes of one are not codes of another, so they are rounded again, to more bits.
fn room_for_both(a: Format, b: Format) -> Format {
    match (a, b) {
        _ if a == b => a,
        (Format::F32, _) | (_, Format::F32) => Format::F32,
        _ if a.dtype().is_some() => a,
        _ if b.dtype().is_some() => b,
        _ => Format::Q8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        dtype: Option<DType>,
        quantization: Option<Quantization>,
        cols: usize,
        parts: &[Stored],
        expect: [Format; 2],
    ) {
        let precision = Precision { dtype, quantization, ..Precision::default() };
        let found = [MatrixKind::Linear, MatrixKind::Table].map(|kind| precision.format(kind, cols, parts));
        assert_eq!(found, expect, "{precision:?} {parts:?}");
    }

    #[test]
    fn what_is_asked_for_wins_over_what_is_in_the_files() {
        let (bf16, q4) = (Some(DType::BF16), Some(Quantization::Q4));
        check(None, None, 512, &[Stored::F16], [Format::F16; 2]);
        check(bf16, None, 512, &[Stored::F32], [Format::BF16; 2]);
        check(bf16, None, 512, &[Stored::Q4_K], [Format::BF16; 2]);
        check(None, Some(Quantization::Q8), 512, &[Stored::F32], [Format::Q8; 2]);
        check(bf16, q4, 512, &[Stored::BF16], [Format::Q4K, Format::Q6K]);
        check(bf16, q4, 896, &[Stored::BF16], [Format::Q4, Format::Q8]);
    }

    #[test]
    fn what_chooses_experts_is_not_rounded() {
        for quantization in [Quantization::Q8, Quantization::Q4, Quantization::Fp8] {
            for on_gpu in [None, Some(DType::BF16)] {
                let precision =
                    Precision { quantization: Some(quantization), on_gpu, ..Precision::default() };
                let format = precision.format(MatrixKind::Router, 512, &[Stored::BF16]);
                assert_eq!(format, Format::BF16, "{precision:?}");
            }
        }
    }

    #[test]
    fn floats_of_eight_bits_stay_so_on_gpus_and_keep_eight_bits_elsewhere() {
        let fp8 = [Stored::F8_E4M3; 3];
        check(None, None, 56, &fp8, [Format::Q8; 2]);
        check(Some(DType::BF16), None, 512, &fp8, [Format::BF16; 2]);
        check(None, Some(Quantization::Q4), 512, &fp8, [Format::Q4K, Format::Q6K]);
        check(None, None, 512, &[Stored::F8_E4M3, Stored::BF16], [Format::BF16; 2]);
        check(None, None, 512, &[Stored::F8_E4M3, Stored::Q8_0], [Format::Q8; 2]);
        let on_gpu = |dtype, parts: &[Stored]| {
            let precision = Precision { dtype, on_gpu: Some(DType::F16), ..Precision::default() };
            precision.format(MatrixKind::Linear, 512, parts)
        };
        assert_eq!(on_gpu(None, &fp8), Format::Fp8);
        assert_eq!(on_gpu(None, &[Stored::F8_E4M3, Stored::Q8_0]), Format::Q8);
        assert_eq!(on_gpu(None, &[Stored::F8_E4M3, Stored::BF16]), Format::F16);
        assert_eq!(on_gpu(Some(DType::F16), &fp8), Format::F16);
    }

    #[test]
    fn activations_are_rounded_to_eight_bits_where_it_was_asked_for_and_weights_are_fp8() {
        let rounds = |activations, kind, format| {
            Precision { activations, ..Precision::default() }.rounds_to_eight_bits(kind, format)
        };
        assert!(rounds(Activations::Fp8, MatrixKind::Linear, Format::Fp8));
        assert!(!rounds(Activations::Fp8, MatrixKind::Linear, Format::BF16));
        assert!(!rounds(Activations::Fp8, MatrixKind::Router, Format::Fp8));
        assert!(!rounds(Activations::Fp8, MatrixKind::Table, Format::Fp8));
        assert!(!rounds(Activations::Auto, MatrixKind::Linear, Format::Fp8));
        let precision = Precision { activations: Activations::Fp8, ..Precision::default() };
        assert!(!precision.rounds_activations(), "the CPU has no such numbers");
    }

    #[test]
    fn parts_that_differ_share_a_format_with_room() {
        check(None, None, 512, &[Stored::Q4_K, Stored::Q4_K], [Format::Q4K; 2]);
        check(None, None, 512, &[Stored::Q5_K], [Format::Q5K; 2]);
        check(None, None, 512, &[Stored::Q4_K, Stored::Q4_K, Stored::Q6_K], [Format::Q8; 2]);
        check(None, None, 512, &[Stored::Q4_0, Stored::F16, Stored::F32], [Format::F32; 2]);
        check(None, None, 512, &[Stored::Q4_0, Stored::Q4_0], [Format::Q4; 2]);
        check(None, None, 512, &[Stored::Q4_0, Stored::Q6_K], [Format::Q8; 2]);
        check(None, None, 512, &[Stored::Q8_0, Stored::BF16, Stored::Q4_0], [Format::BF16; 2]);
    }
}

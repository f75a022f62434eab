//! Products of rows with the matrix of the expert that each belongs to: `cuda/grouped.cuh`.

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::variant::{Half, Variant, kernels, kind};
use super::{F32_ROWS, F32_TOKENS, LinearParams, THREADS, readable};
use crate::error::{KernelError, Result};
use crate::gpu::format::TILE;
use crate::gpu::{GpuFormat, GpuMatrix};

const OP: &str = "expert_linear";

#[derive(Clone, Copy)]
#[repr(C)]
struct GroupedParams {
    all: LinearParams,
    offsets: u64,
    codes_bytes: i64,
    scales_bytes: i64,
    experts: i32,
    activation_bytes: i32,
}

// SAFETY: the struct of cuda/grouped.cuh, without padding.
unsafe impl Params for GroupedParams {}

/// Which kernel multiplies the rows of a group, as it does with one matrix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grouped {
    Stream8,
    Tile32,
    Tile64,
    Tile128,
}

// === impl Grouped ===

impl Grouped {
    /// The fastest one for `n` rows of so many experts.
    fn choose(n: usize, experts: usize, format: GpuFormat) -> Self {
        // Where blocks have scales, the largest tile does not fit registers.
        let largest =
            if matches!(format, GpuFormat::Q8 | GpuFormat::Q4) { Self::Tile64 } else { Self::Tile128 };
        match n / n.min(experts).max(1) {
            0..=8 => Self::Stream8,
            9..=32 => Self::Tile32,
            33..=255 => Self::Tile64,
            _ => largest,
        }
    }

    fn variant(self) -> Variant {
        match self {
            Self::Stream8 => Variant::Stream8,
            Self::Tile32 => Variant::Tile32,
            Self::Tile64 => Variant::Tile64,
            Self::Tile128 => Variant::Tile128,
        }
    }

    fn kernel(self, half: Half, format: GpuFormat) -> &'static str {
        let kernels = match self {
            Self::Stream8 => kernels!("grouped_stream8"),
            Self::Tile32 => kernels!("grouped_tile32"),
            Self::Tile64 => kernels!("grouped_tile64"),
            Self::Tile128 => kernels!("grouped_tile128"),
        };
        kernels[half as usize][kind(format)]
    }

    /// For `n` rows of `experts` with matrices of `out` rows, which lie in `w` one behind the other.
    fn grid(self, n: usize, experts: usize, out: usize, w: &GpuMatrix) -> Grid {
        let variant = self.variant();
        let (rows, tokens) = variant.shape();
        // Blocks with the same rows of matrices follow each other.
        let grid = Grid::of_two(most_groups(n, experts, tokens), out.div_ceil(rows), variant.threads());
        grid.with_shared(variant.shared_bytes(w))
    }
}

/// `x w^T` `[n, out]` in the type `out`, as [`linear`](super::linear()) multiplies, where each row of `x` `[n, in]` has a matrix
/// of its own: `w` is `[experts * out, in]`, the matrices one behind the other, and rows `offsets[e]..offsets[e + 1]` belong to
/// expert `e`. `offsets` is `[experts + 1]` u32, ascending from 0 to `n`. Unless weights are f32, `out` is a multiple of sixteen.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn expert_linear(x: &GpuTensor, w: &GpuMatrix, offsets: &GpuTensor, out: DType) -> Result<GpuTensor> {
    expert_linear_by(None, x, w, offsets, out)
}

/// [`expert_linear`] by a kernel of choice.
fn expert_linear_by(
    grouped: Option<Grouped>,
    x: &GpuTensor,
    w: &GpuMatrix,
    offsets: &GpuTensor,
    out: DType,
) -> Result<GpuTensor> {
    let experts = check_offsets(w, offsets)?;
    let n = super::check(x, w, None, out)?;
    let out_features = w.out_features() / experts;
    let y = x.gpu().empty(&[n, out_features], out)?;
    let (x, half) = readable(x)?;
    let mut params = GroupedParams {
        all: LinearParams::new(&x, w, None, &y),
        offsets: offsets.address(),
        codes_bytes: (out_features * w.steps() * w.format().step_bytes()) as i64,
        scales_bytes: (out_features * w.format().row_scale_bytes(w.in_features())) as i64,
        experts: experts as i32,
        activation_bytes: x.dtype().size_in_bytes() as i32,
    };
    let (kernel, grid) = match half {
        Some(half) => {
            let grouped = grouped.unwrap_or_else(|| Grouped::choose(n, experts, w.format()));
            params.all.slots = grouped.variant().slots(w.steps()) as i32;
            (grouped.kernel(half, w.format()), grouped.grid(n, experts, out_features, w))
        }
        None => {
            let groups = most_groups(n, experts, F32_TOKENS);
            (f32_kernel(w.format()), Grid::of_two(out_features.div_ceil(F32_ROWS), groups, THREADS))
        }
    };
    // SAFETY: the shapes were checked, rows of `x` are aligned, and the output is new.
    unsafe { x.gpu().launch(kernel, grid, &params)? };
    Ok(y)
}

/// The number of experts.
fn check_offsets(w: &GpuMatrix, offsets: &GpuTensor) -> Result<usize> {
    let experts = match *offsets.dims() {
        [ends] if ends > 1 && offsets.dtype() == DType::U32 => ends - 1,
        _ => {
            let problem = format!("offsets are {offsets:?}, they must be [experts + 1] of u32");
            return Err(KernelError::shape(OP, problem));
        }
    };
    // Rows lie in tiles, and an expert's begin with one.
    let whole = if w.format() == GpuFormat::F32 { experts } else { experts * TILE };
    if w.out_features().is_multiple_of(whole) {
        Ok(experts)
    } else {
        let problem =
            format!("{w:?} has not the same whole tiles of {TILE} rows for each of {experts} experts");
        Err(KernelError::shape(OP, problem))
    }
}

/// Groups of at most `most` rows that `n` rows of `experts` can need, however they are shared out: a launch must not depend on
/// that.
fn most_groups(n: usize, experts: usize, most: usize) -> usize {
    let busy = n.min(experts);
    (n + busy * (most - 1)) / most
}

fn f32_kernel(format: GpuFormat) -> &'static str {
    match format {
        GpuFormat::F32 => "grouped_f32_f32",
        GpuFormat::F16 => "grouped_f32_f16",
        GpuFormat::BF16 => "grouped_f32_bf16",
        GpuFormat::Fp8 => "grouped_f32_fp8",
        GpuFormat::Q8 => "grouped_f32_q8",
        GpuFormat::Q4 => "grouped_f32_q4",
    }
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests {
    use super::super::tests::{HALVES, activations, formats, weights};
    use super::*;
    use crate::gpu::linear;
    use crate::gpu::testing::{device, ids_on_gpu, on_gpu, values_of};
    use crate::testing::bits;

    /// Every row of a product with several matrices, by each kernel, has the bits of a product with its own matrix alone.
    fn check(dtype: DType, format: GpuFormat, counts: &[usize], [inn, out]: [usize; 2]) {
        let gpu = device();
        let experts = counts.len();
        let offsets: Vec<u32> = (0..=experts).map(|e| counts[..e].iter().sum::<usize>() as u32).collect();
        let n = counts.iter().sum();
        let w = weights(&gpu, format, experts * out, inn);
        let x = on_gpu(&gpu, &activations(dtype, n, inn), &[n, inn], dtype);
        // The product with all matrices, of which a row's own is a part.
        let all = values_of(&linear(&x, &w, None, DType::F32).unwrap());
        let expected: Vec<f32> = (0..n)
            .flat_map(|row| {
                let expert = (0..experts).find(|&e| row < offsets[e + 1] as usize).unwrap();
                all[(row * experts + expert) * out..][..out].to_vec()
            })
            .collect();
        let all_kernels: &[Option<Grouped>] = match (dtype, format) {
            (DType::F32, _) => &[None],
            (_, GpuFormat::Q8 | GpuFormat::Q4) => {
                &[None, Some(Grouped::Stream8), Some(Grouped::Tile32), Some(Grouped::Tile64)]
            }
            _ => &[
                Some(Grouped::Stream8),
                Some(Grouped::Tile32),
                Some(Grouped::Tile64),
                Some(Grouped::Tile128),
            ],
        };
        for grouped in all_kernels {
            let offsets = ids_on_gpu(&gpu, &offsets);
            let y = expert_linear_by(*grouped, &x, &w, &offsets, DType::F32).unwrap();
            assert_eq!((y.dims(), y.dtype()), (&[n, out][..], DType::F32));
            assert_eq!(bits(&values_of(&y)), bits(&expected), "{dtype:?} {format} {grouped:?} {counts:?}");
        }
    }

    #[test]
    fn a_row_is_multiplied_with_the_matrix_of_its_expert() {
        for dtype in HALVES {
            for format in formats(dtype) {
                check(dtype, format, &[0, 9, 0, 1, 36], [328, 48]);
            }
        }
        for format in formats(DType::F32) {
            check(DType::F32, format, &[3, 0, 9], [100, 32]);
        }
        // One row, and more experts than a warp has lanes.
        check(DType::BF16, GpuFormat::BF16, &[0, 0, 1], [64, 16]);
        let many: Vec<usize> = (0..70).map(|e| usize::from(e % 3 == 1) * (e % 5)).collect();
        check(DType::BF16, GpuFormat::Fp8, &many, [40, 16]);
        // More rows of an expert than the largest tile has.
        check(DType::BF16, GpuFormat::BF16, &[131, 2], [64, 16]);
    }

    #[test]
    fn a_product_of_halves_is_one_of_their_type() {
        let gpu = device();
        let w = weights(&gpu, GpuFormat::Q4, 2 * 32, 96);
        let x = on_gpu(&gpu, &activations(DType::F16, 5, 96), &[5, 96], DType::F16);
        let offsets = ids_on_gpu(&gpu, &[0, 2, 5]);
        let exact = values_of(&expert_linear(&x, &w, &offsets, DType::F32).unwrap());
        let y = expert_linear(&x, &w, &offsets, DType::F16).unwrap();
        assert_eq!(y.dtype(), DType::F16);
        assert_eq!(values_of(&y), crate::gpu::testing::rounded_to(DType::F16, &exact));
    }

    #[test]
    fn there_are_never_more_groups_than_blocks() {
        for most in [4, 8, 64] {
            for experts in 1..6 {
                for n in 0..40 {
                    // As many experts as can be have one row, the last one has the others.
                    let busy = n.min(experts);
                    let last = (n + 1 - busy.min(n + 1)).max(usize::from(n > 0));
                    let needed = if n == 0 { 0 } else { busy - 1 + last.div_ceil(most) };
                    assert!(needed <= most_groups(n, experts, most), "{n} rows of {experts}");
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let gpu = device();
        let w = weights(&gpu, GpuFormat::BF16, 96, 16);
        let x = on_gpu(&gpu, &[0.0; 32], &[2, 16], DType::BF16);
        let run = |offsets: &[u32]| expert_linear(&x, &w, &ids_on_gpu(&gpu, offsets), DType::BF16);
        assert!(run(&[0, 1, 2]).is_ok());
        assert!(run(&[0, 1, 1, 1, 2]).is_err(), "96 rows are not 4 matrices of whole tiles");
        assert!(run(&[0]).is_err());
    }
}

//! Root-mean-square normalisation: `cuda/rms_norm.cu`.

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::for_dtype;
use crate::error::{KernelError, Result};

/// Numbers of a row that stay with a thread, so that it asks for all of them at once. Wider rows than a thousand times as many
/// take longer.
const EACH: usize = 8;
const KERNELS: [&str; 3] = ["rms_norm_bf16", "rms_norm_f16", "rms_norm_f32"];

#[derive(Clone, Copy)]
#[repr(C)]
struct RmsNormParams {
    x: u64,
    residual: u64,
    weight: u64,
    normed: u64,
    sum: u64,
    width: i32,
    eps: f32,
    alike: u32,
    unused: u32,
}

// SAFETY: the struct of cuda/rms_norm.cu, without padding.
unsafe impl Params for RmsNormParams {}

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension of `x` `[n, d]`, which is f32; the result has the type of
/// `weight` `[d]`.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn rms_norm(x: &GpuTensor, weight: &GpuTensor, eps: f64) -> Result<GpuTensor> {
    const OP: &str = "rms_norm";
    let width = check(OP, x, DType::F32, weight)?;
    let normed = x.gpu().empty(x.dims(), weight.dtype())?;
    launch(OP, x, None, weight, eps, &normed, width)?;
    Ok(normed)
}

/// `sum = x + residual`, then `rms_norm(sum)`; returns `(normed, sum)`. `x` has the type of `weight`, `residual` and the sum
/// are f32.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn add_rms_norm(
    x: &GpuTensor,
    residual: &GpuTensor,
    weight: &GpuTensor,
    eps: f64,
) -> Result<(GpuTensor, GpuTensor)> {
    const OP: &str = "add_rms_norm";
    let width = check(OP, x, weight.dtype(), weight)?;
    if residual.dims() != x.dims() || residual.dtype() != DType::F32 {
        let problem = format!("x is {x:?}, so residual must be its shape in f32, not {residual:?}");
        return Err(KernelError::shape(OP, problem));
    }
    let normed = x.gpu().empty(x.dims(), weight.dtype())?;
    let sum = x.gpu().empty(x.dims(), DType::F32)?;
    launch(OP, x, Some((residual, &sum)), weight, eps, &normed, width)?;
    Ok((normed, sum))
}

fn check(op: &'static str, x: &GpuTensor, dtype: DType, weight: &GpuTensor) -> Result<usize> {
    match (x.dims(), weight.dims()) {
        ([_, d], [w]) if d == w && *d > 0 && x.dtype() == dtype => Ok(*d),
        _ => {
            let problem = format!("x is {x:?}, it must be [n, d] of {dtype:?} with the d of {weight:?}");
            Err(KernelError::shape(op, problem))
        }
    }
}

fn launch(
    op: &'static str,
    x: &GpuTensor,
    residual: Option<(&GpuTensor, &GpuTensor)>,
    weight: &GpuTensor,
    eps: f64,
    normed: &GpuTensor,
    width: usize,
) -> Result<()> {
    let kernel = for_dtype(op, weight.dtype(), KERNELS)?;
    let rows = x.num_elements() / width;
    let threads = width.div_ceil(EACH).next_multiple_of(32).min(1024) as u32;
    // A number for each warp.
    let grid = Grid::of(rows, threads).with_shared(32 * size_of::<f32>());
    // Of new memory, as outputs are, all numbers lie where any do.
    let inputs = [Some(x), residual.map(|(residual, _)| residual), Some(weight)];
    let alike =
        width.is_multiple_of(4) && inputs.iter().flatten().all(|tensor| tensor.address().is_multiple_of(16));
    let params = RmsNormParams {
        x: x.address(),
        residual: residual.map_or(0, |(residual, _)| residual.address()),
        weight: weight.address(),
        normed: normed.address(),
        sum: residual.map_or(0, |(_, sum)| sum.address()),
        width: width as i32,
        eps: eps as f32,
        alike: u32::from(alike),
        unused: 0,
    };
    // SAFETY: the shapes were checked, and the outputs are new.
    unsafe { x.gpu().launch(kernel, grid, &params)? };
    Ok(())
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests {
    use super::*;
    use crate::gpu::testing::{DTYPES, assert_near, device, on_gpu, rounded_to, values_of};
    use crate::reference;
    use crate::testing::noise;

    #[test]
    fn rows_of_any_width_are_normed_with_and_without_a_residual() {
        let gpu = device();
        for (rows, width) in [(1, 8), (3, 64), (2, 99), (2, 100), (5, 768), (1, 4096), (2, 10_000)] {
            let x = noise(1, rows * width);
            for dtype in DTYPES {
                let weight = rounded_to(dtype, &noise(2, width));
                let on_device = on_gpu(&gpu, &weight, &[width], dtype);
                let normed =
                    rms_norm(&on_gpu(&gpu, &x, &[rows, width], DType::F32), &on_device, 1e-5).unwrap();
                assert_near(dtype, &values_of(&normed), &reference::rms_norm(&x, &weight, 1e-5));

                let (added, residual) = (rounded_to(dtype, &noise(3, x.len())), &x);
                let (normed, sum) = add_rms_norm(
                    &on_gpu(&gpu, &added, &[rows, width], dtype),
                    &on_gpu(&gpu, residual, &[rows, width], DType::F32),
                    &on_device,
                    1e-5,
                )
                .unwrap();
                let expected = reference::add_rms_norm(&added, residual, &weight, 1e-5);
                assert_near(dtype, &values_of(&normed), &expected.0);
                assert_near(DType::F32, &values_of(&sum), &expected.1);
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let gpu = device();
        let (x, weight) = (noise(4, 6 * 320), noise(5, 320));
        let weight = on_gpu(&gpu, &weight, &[320], DType::BF16);
        let all = values_of(&rms_norm(&on_gpu(&gpu, &x, &[6, 320], DType::F32), &weight, 1e-6).unwrap());
        for row in 0..6 {
            let alone = on_gpu(&gpu, &x[row * 320..][..320], &[1, 320], DType::F32);
            assert_eq!(values_of(&rms_norm(&alone, &weight, 1e-6).unwrap()), all[row * 320..][..320]);
        }
    }

    #[test]
    fn shapes_and_types_that_do_not_fit_are_refused() {
        let gpu = device();
        let x = on_gpu(&gpu, &[1.0; 8], &[2, 4], DType::F32);
        let short = on_gpu(&gpu, &[1.0; 3], &[3], DType::BF16);
        assert!(rms_norm(&x, &short, 1e-5).is_err());
        let weight = on_gpu(&gpu, &[1.0; 4], &[4], DType::BF16);
        assert!(add_rms_norm(&x, &x, &weight, 1e-5).is_err(), "x must be bf16");
    }
}

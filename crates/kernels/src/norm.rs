//! Root-mean-square normalisation, alone and fused with the residual addition before it.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};

use crate::element::LANES;
use crate::error::{KernelError, Result};
use crate::pool::parallel_rows;
use crate::simd::{Isa, Lanes, multiversion};
use crate::tensor::{Shared, activations, filled, floats};

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension of `x` `[.., d]`; `weight` is `[d]`.
///
/// # Errors
/// Shapes that do not fit, dtypes other than f32.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    const OP: &str = "rms_norm";
    let x = activations(OP, "x", x)?;
    let weight = activations(OP, "weight", weight)?;
    check_weight(OP, &x, &weight)?;
    Ok(x.apply_op2_no_bwd(&weight, &RmsNorm { eps: eps as f32, isa: Isa::detect() })?)
}

/// `sum = x + residual`, then `rms_norm(sum)`; returns `(normed, sum)`, both of the shape of `x`.
///
/// # Errors
/// Shapes that do not fit, dtypes other than f32.
pub fn add_rms_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    const OP: &str = "add_rms_norm";
    let x = activations(OP, "x", x)?;
    let residual = activations(OP, "residual", residual)?;
    let weight = activations(OP, "weight", weight)?;
    check_weight(OP, &x, &weight)?;
    if x.dims() != residual.dims() {
        return Err(KernelError::shape(OP, format!("x is {:?}, residual {:?}", x.dims(), residual.dims())));
    }
    let both = x.apply_op3_no_bwd(&residual, &weight, &RmsNorm { eps: eps as f32, isa: Isa::detect() })?;
    Ok((both.get(0)?, both.get(1)?))
}

struct RmsNorm {
    eps: f32,
    isa: Isa,
}

// === impl RmsNorm ===

impl RmsNorm {
    /// Normalise `x` (plus `residual`, if any) into `normed`, and write the sum to `sum` if there is one.
    fn run(&self, x: &[f32], residual: Option<&[f32]>, weight: &[f32], out: *mut f32) -> Result<()> {
        let d = weight.len();
        let normed = Shared::new(out);
        parallel_rows(x.len() / d, d, &|rows| {
            for row in rows {
                let at = row * d;
                // SAFETY: `x`, `residual` and each half of the output hold whole rows of `d` numbers, of which
                // this iteration alone writes row `row`.
                unsafe {
                    let out = normed.get().add(at);
                    match residual {
                        Some(residual) => add_norm_row(
                            self.isa,
                            x.as_ptr().add(at),
                            residual.as_ptr().add(at),
                            weight,
                            self.eps,
                            out,
                            out.add(x.len()),
                        ),
                        None => norm_row(self.isa, x.as_ptr().add(at), weight, self.eps, out),
                    }
                }
            }
        })
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, weight) = (floats(s1, l1)?, floats(s2, l2)?);
        // SAFETY: `run` writes every row of the output.
        let out = unsafe { filled(x.len(), |out| self.run(x, None, weight, out))? };
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Gives both results as one tensor `[2, ..]`: normed, then the sum.
impl CustomOp3 for RmsNorm {
    fn name(&self) -> &'static str {
        "add_rms_norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, residual, weight) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        // SAFETY: `run` writes every row of both halves.
        let out = unsafe { filled(2 * x.len(), |out| self.run(x, Some(residual), weight, out))? };
        let dims: Vec<usize> = [2].into_iter().chain(l1.dims().iter().copied()).collect();
        Ok((CpuStorage::F32(out), Shape::from_dims(&dims)))
    }
}

fn check_weight(op: &'static str, x: &Tensor, weight: &Tensor) -> Result<()> {
    match (x.dims().last(), weight.dims()) {
        (Some(d), [w]) if d == w && *d > 0 => Ok(()),
        _ => Err(KernelError::shape(
            op,
            format!("x is {:?}, so weight must be its last dimension, not {:?}", x.dims(), weight.dims()),
        )),
    }
}

/// # Safety
/// `x` and `out` are valid for `weight.len()` elements; the instruction set of `L` is there.
#[inline(always)]
pub(crate) unsafe fn norm_row_body<L: Lanes>(x: *const f32, weight: &[f32], eps: f32, out: *mut f32) {
    let d = weight.len();
    // SAFETY: every access is at `i < d`, and at most `d - i` elements long.
    unsafe {
        let mut squares = L::splat(0.0);
        for i in (0..d).step_by(LANES) {
            let v = L::load_first(x.add(i), d - i);
            squares = v.fma(v, squares);
        }
        let scale = L::splat(1.0 / (squares.sum() / d as f32 + eps).sqrt());
        for i in (0..d).step_by(LANES) {
            let v = L::load_first(x.add(i), d - i);
            let w = L::load_first(weight.as_ptr().add(i), d - i);
            v.mul(scale).mul(w).store_first(out.add(i), d - i);
        }
    }
}
multiversion! { unsafe fn norm_row(x: *const f32, weight: &[f32], eps: f32, out: *mut f32) = norm_row_body }

/// # Safety
/// The four pointers are valid for `weight.len()` elements.
#[inline(always)]
unsafe fn add_norm_row_body<L: Lanes>(
    x: *const f32,
    residual: *const f32,
    weight: &[f32],
    eps: f32,
    out: *mut f32,
    sum: *mut f32,
) {
    let d = weight.len();
    // SAFETY: every access is at `i < d`, and at most `d - i` elements long.
    unsafe {
        for i in (0..d).step_by(LANES) {
            let total = L::load_first(x.add(i), d - i).add(L::load_first(residual.add(i), d - i));
            total.store_first(sum.add(i), d - i);
        }
        norm_row_body::<L>(sum, weight, eps, out);
    }
}
multiversion! {
    unsafe fn add_norm_row(
        x: *const f32, residual: *const f32, weight: &[f32], eps: f32, out: *mut f32, sum: *mut f32,
    ) = add_norm_row_body
}

#[cfg(test)]
mod tests;

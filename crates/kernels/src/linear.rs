//! Matrix products with packed weights.

mod kernel;
mod operand;
mod panels;

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

use crate::error::{KernelError, Result};
use crate::quant;
use crate::simd::Isa;
use crate::tensor::{activations, filled, floats};
use crate::weight::PackedWeight;

const OP: &str = "linear";

/// `x w^T + bias`: `x` is `[n, in]`, `w` is `[out, in]`, `bias` is `[out]`, the result `[n, out]`.
///
/// Each output is one chain of fused multiply-adds over `in`, in f32, in order; the bias is added last. With quantised
/// weights the links of the chain are dot products of 32, and activations are rounded to eight bits for each 32.
///
/// # Errors
/// Shapes that do not fit, dtypes other than f32.
pub fn linear(x: &Tensor, w: &Arc<PackedWeight>, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_on(Isa::detect(), x, w, bias)
}

/// Whether this machine multiplies pairs of bf16, so that rounding activations is worth it: see
/// [`PackedWeight::round_activations`].
#[must_use]
pub fn has_bf16_products() -> bool {
    operand::Pair::is_available(Isa::detect())
}

pub(crate) fn linear_on(isa: Isa, x: &Tensor, w: &PackedWeight, bias: Option<&Tensor>) -> Result<Tensor> {
    let x = activations(OP, "x", x)?;
    match x.dims() {
        [_, inn] if *inn == w.in_features() => {}
        dims => {
            return Err(KernelError::shape(
                OP,
                format!("x is {dims:?}, the weight needs [n, {}]", w.in_features()),
            ));
        }
    }
    let op = Linear { w, isa };
    let Some(bias) = bias else {
        return Ok(x.apply_op1_no_bwd(&op)?);
    };
    let bias = activations(OP, "bias", bias)?;
    if bias.dims() != [w.out_features()] {
        return Err(KernelError::shape(OP, format!("bias is {:?}, not [{}]", bias.dims(), w.out_features())));
    }
    Ok(x.apply_op2_no_bwd(&bias, &op)?)
}

struct Linear<'a> {
    w: &'a PackedWeight,
    isa: Isa,
}

// === impl Linear ===

impl Linear<'_> {
    fn run(&self, x: &[f32], bias: Option<&[f32]>) -> candle_core::Result<(CpuStorage, Shape)> {
        let (inn, out) = (self.w.in_features(), self.w.out_features());
        let n = x.len() / inn;
        // SAFETY: the kernel writes all `n * out` results.
        let results = unsafe {
            filled(n * out, |to| match self.w.format().dtype() {
                Some(dtype) => kernel::multiply(self.isa, dtype, x, n, self.w, bias, to),
                None => quant::multiply(self.isa, x, n, self.w, bias, to),
            })?
        };
        Ok((CpuStorage::F32(results), Shape::from((n, out))))
    }
}

impl CustomOp1 for Linear<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.run(floats(storage, layout)?, None)
    }
}

impl CustomOp2 for Linear<'_> {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        self.run(floats(s1, l1)?, Some(floats(s2, l2)?))
    }
}

#[cfg(test)]
mod tests;

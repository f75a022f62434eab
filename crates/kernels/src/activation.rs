//! The gated activations of feed-forward layers.

use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use crate::element::LANES;
use crate::error::{KernelError, Result};
use crate::pool::parallel_rows;
use crate::simd::{Isa, Lanes, exp, multiversion};
use crate::tensor::{Shared, activations, filled, floats};

/// `silu(left half) * right half` of each row of `gate_up` `[n, 2 * i]`, giving `[n, i]`; silu(x) = x / (1 + e^-x).
///
/// # Errors
/// A shape that is not `[n, 2 * i]`, a dtype other than f32.
pub fn silu_mul(gate_up: &Tensor) -> Result<Tensor> {
    const OP: &str = "silu_mul";
    let gate_up = activations(OP, "gate_up", gate_up)?;
    match gate_up.dims() {
        [_, both] if both % 2 == 0 => {}
        dims => return Err(KernelError::shape(OP, format!("gate_up is {dims:?}, it must be [n, 2 * i]"))),
    }
    Ok(gate_up.apply_op1_no_bwd(&SiluMul { isa: Isa::detect() })?)
}

struct SiluMul {
    isa: Isa,
}

impl CustomOp1 for SiluMul {
    fn name(&self) -> &'static str {
        "silu_mul"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let gate_up = floats(storage, layout)?;
        let (n, both) = layout.shape().dims2()?;
        let i = both / 2;
        // SAFETY: each of the n rows of i numbers is written in full, by one chunk.
        let out = unsafe {
            filled(n * i, |out| {
                let out = Shared::new(out);
                parallel_rows(n, both, &|rows| {
                    for row in rows {
                        let gate = gate_up.as_ptr().add(row * both);
                        silu_mul_row(self.isa, gate, gate.add(i), i, out.get().add(row * i));
                    }
                })
            })?
        };
        Ok((CpuStorage::F32(out), Shape::from((n, i))))
    }
}

/// # Safety
/// All three pointers are valid for `len` elements.
#[inline(always)]
unsafe fn silu_mul_row_body<L: Lanes>(gate: *const f32, up: *const f32, len: usize, out: *mut f32) {
    // SAFETY: every access is at `i < len`, and at most `len - i` elements long.
    unsafe {
        let one = L::splat(1.0);
        for i in (0..len).step_by(LANES) {
            let g = L::load_first(gate.add(i), len - i);
            let u = L::load_first(up.add(i), len - i);
            let e = exp(L::splat(0.0).sub(g));
            g.div(one.add(e)).mul(u).store_first(out.add(i), len - i);
        }
    }
}
multiversion! {
    unsafe fn silu_mul_row(gate: *const f32, up: *const f32, len: usize, out: *mut f32) = silu_mul_row_body
}

#[cfg(test)]
mod tests;

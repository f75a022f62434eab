//! Rotary position embedding, half-split: element `i` turns with element `i + rot / 2`.

use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

use crate::element::LANES;
use crate::error::{KernelError, Result};
use crate::pool::parallel_rows;
use crate::simd::{Isa, Lanes, multiversion};
use crate::tensor::{Shared, activations, filled, floats};

const OP: &str = "rope";

/// Turn each head of `x` `[n, heads, d]` by the angles of its token's position.
///
/// `cos` and `sin` are `[max_pos, rot / 2]`. The first `rot` elements of a head turn, the rest pass through.
///
/// # Errors
/// Shapes that do not fit, a rotation longer than a head, a position beyond the tables.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, positions: &[u32]) -> Result<Tensor> {
    let x = activations(OP, "x", x)?;
    let (cos, sin) = (activations(OP, "cos", cos)?, activations(OP, "sin", sin)?);
    let [n, heads, d] = x.dims()[..] else {
        return Err(KernelError::shape(OP, format!("x is {:?}, it must be [n, heads, d]", x.dims())));
    };
    let [max_pos, half] = cos.dims()[..] else {
        return Err(KernelError::shape(
            OP,
            format!("cos is {:?}, it must be [max_pos, rot / 2]", cos.dims()),
        ));
    };
    if sin.dims() != cos.dims() {
        return Err(KernelError::shape(OP, format!("cos is {:?}, sin {:?}", cos.dims(), sin.dims())));
    }
    if 2 * half > d {
        return Err(KernelError::shape(OP, format!("a rotation of {} does not fit heads of {d}", 2 * half)));
    }
    if positions.len() != n {
        return Err(KernelError::shape(OP, format!("{} positions for {n} tokens", positions.len())));
    }
    if let Some(p) = positions.iter().find(|p| **p as usize >= max_pos) {
        return Err(KernelError::OutOfRange { op: OP, what: "position", index: *p as usize, limit: max_pos });
    }
    Ok(x.apply_op3_no_bwd(&cos, &sin, &Rope { positions, heads, d, half, isa: Isa::detect() })?)
}

struct Rope<'a> {
    positions: &'a [u32],
    heads: usize,
    d: usize,
    half: usize,
    isa: Isa,
}

impl CustomOp3 for Rope<'_> {
    fn name(&self) -> &'static str {
        OP
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
        let (x, cos, sin) = (floats(s1, l1)?, floats(s2, l2)?, floats(s3, l3)?);
        let token = self.heads * self.d;
        // SAFETY: each token's row is written in full, by one chunk; its position was checked against the tables.
        let out = unsafe {
            filled(x.len(), |out| {
                let out = Shared::new(out);
                parallel_rows(self.positions.len(), token, &|rows| {
                    for row in rows {
                        let angle = self.positions[row] as usize * self.half;
                        turn_token(
                            self.isa,
                            self,
                            x.as_ptr().add(row * token),
                            cos.as_ptr().add(angle),
                            sin.as_ptr().add(angle),
                            out.get().add(row * token),
                        );
                    }
                })
            })?
        };
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// # Safety
/// `x` and `out` are valid for `heads * d` elements, `cos` and `sin` for `half`.
#[inline(always)]
unsafe fn turn_token_body<L: Lanes>(
    rope: &Rope<'_>,
    x: *const f32,
    cos: *const f32,
    sin: *const f32,
    out: *mut f32,
) {
    let half = rope.half;
    for head in 0..rope.heads {
        // SAFETY: `i + len <= half`, and `2 * half <= d`.
        unsafe {
            let (x, out) = (x.add(head * rope.d), out.add(head * rope.d));
            for i in (0..half).step_by(LANES) {
                let len = half - i;
                let (c, s) = (L::load_first(cos.add(i), len), L::load_first(sin.add(i), len));
                let (a, b) = (L::load_first(x.add(i), len), L::load_first(x.add(half + i), len));
                a.mul(c).sub(b.mul(s)).store_first(out.add(i), len);
                b.mul(c).add(a.mul(s)).store_first(out.add(half + i), len);
            }
            std::ptr::copy_nonoverlapping(x.add(2 * half), out.add(2 * half), rope.d - 2 * half);
        }
    }
}
multiversion! {
    unsafe fn turn_token(
        rope: &Rope<'_>, x: *const f32, cos: *const f32, sin: *const f32, out: *mut f32,
    ) = turn_token_body
}

#[cfg(test)]
mod tests;

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
    let half = check_angles(OP, &cos, &sin, positions, n, d)?;
    Ok(x.apply_op3_no_bwd(&cos, &sin, &Rope { positions, heads, d, half, isa: Isa::detect() })?)
}

/// Half of the rotation that `cos` and `sin` describe, once it fits heads of `d` and the tables have the position of each
/// of `n` tokens.
pub(crate) fn check_angles(
    op: &'static str,
    cos: &Tensor,
    sin: &Tensor,
    positions: &[u32],
    n: usize,
    d: usize,
) -> Result<usize> {
    let [max_pos, half] = cos.dims()[..] else {
        return Err(KernelError::shape(
            op,
            format!("cos is {:?}, it must be [max_pos, rot / 2]", cos.dims()),
        ));
    };
    if sin.dims() != cos.dims() {
        return Err(KernelError::shape(op, format!("cos is {:?}, sin {:?}", cos.dims(), sin.dims())));
    }
    if 2 * half > d {
        return Err(KernelError::shape(op, format!("a rotation of {} does not fit heads of {d}", 2 * half)));
    }
    if positions.len() != n {
        return Err(KernelError::shape(op, format!("{} positions for {n} tokens", positions.len())));
    }
    if let Some(p) = positions.iter().find(|p| **p as usize >= max_pos) {
        return Err(KernelError::OutOfRange { op, what: "position", index: *p as usize, limit: max_pos });
    }
    Ok(half)
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
    for head in 0..rope.heads {
        let at = head * rope.d;
        // SAFETY: the caller's promise.
        unsafe { turn_head::<L>(x.add(at), cos, sin, out.add(at), rope.d, rope.half) }
    }
}
multiversion! {
    unsafe fn turn_token(
        rope: &Rope<'_>, x: *const f32, cos: *const f32, sin: *const f32, out: *mut f32,
    ) = turn_token_body
}

/// One head of `d` numbers; `x` and `out` may be one place.
///
/// # Safety
/// `x` and `out` are valid for `d` elements, `cos` and `sin` for `half`, and `2 * half <= d`; the instruction set of `L`
/// is there.
#[inline(always)]
pub(crate) unsafe fn turn_head<L: Lanes>(
    x: *const f32,
    cos: *const f32,
    sin: *const f32,
    out: *mut f32,
    d: usize,
    half: usize,
) {
    // SAFETY: `i + len <= half`, and `2 * half <= d`. Both halves of a pair are read before either is written.
    unsafe {
        for i in (0..half).step_by(LANES) {
            let len = half - i;
            let (c, s) = (L::load_first(cos.add(i), len), L::load_first(sin.add(i), len));
            let (a, b) = (L::load_first(x.add(i), len), L::load_first(x.add(half + i), len));
            a.mul(c).sub(b.mul(s)).store_first(out.add(i), len);
            b.mul(c).add(a.mul(s)).store_first(out.add(half + i), len);
        }
        std::ptr::copy(x.add(2 * half), out.add(2 * half), d - 2 * half);
    }
}

#[cfg(test)]
mod tests;

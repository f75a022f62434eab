//! Activations as warpgroups read them: `cuda/arranged.cuh`.

use vlinders_device::{GpuTensor, Grid, Params};

use super::variant::TOKEN_BYTES;
use crate::error::Result;

const THREADS: u32 = 256;
/// Tokens that lie together.
const TOGETHER: usize = 128;
/// What a thread writes.
const PIECE_BYTES: usize = 16;

#[derive(Clone, Copy)]
#[repr(C)]
struct ArrangeParams {
    x: u64,
    y: u64,
    pieces: i64,
    tokens: i32,
    width: i32,
    steps: i32,
    unused: i32,
}

// SAFETY: the struct of cuda/arrange.cu, without padding.
unsafe impl Params for ArrangeParams {}

/// Rows of `x` in steps, filled up with zeros to whole ones, and with rows of zeros to a multiple of `tokens`. `x` is `[n, width]` of
/// two-byte numbers, its rows aligned to sixteen bytes.
pub(super) fn arranged(x: &GpuTensor, tokens: usize, steps: usize) -> Result<GpuTensor> {
    let [n, width] = [x.dims()[0], x.dims()[1]];
    let rows = n.next_multiple_of(tokens).next_multiple_of(TOGETHER);
    let y = x.gpu().empty(&[rows, steps * TOKEN_BYTES / x.dtype().size_in_bytes()], x.dtype())?;
    let pieces = n.next_multiple_of(tokens) * steps * TOKEN_BYTES / PIECE_BYTES;
    let params = ArrangeParams {
        x: x.address(),
        y: y.address(),
        pieces: pieces as i64,
        tokens: n as i32,
        width: width as i32,
        steps: steps as i32,
        unused: 0,
    };
    // SAFETY: rows of `x` are as long as they say, and `y` has room for whole steps of all rows that are written.
    unsafe { x.gpu().launch("arrange", Grid::of(pieces.div_ceil(THREADS as usize), THREADS), &params)? };
    Ok(y)
}

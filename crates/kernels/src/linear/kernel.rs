//! One row and one tile at a time.

use crate::element::{Element, LANES, with_element};
use crate::error::Result;
use crate::pool::parallel_for;
use crate::simd::{Isa, Lanes, multiversion};
use crate::tensor::Shared;
use crate::weight::PackedWeight;

/// Write `x w^T + bias` for `n` rows to `out`.
///
/// # Safety
/// `x` holds `n` rows of `in` numbers, `bias` (if any) `out` numbers, and `out` is writable for `n * out`.
pub(super) unsafe fn multiply(
    isa: Isa,
    x: &[f32],
    n: usize,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    out: *mut f32,
) -> Result<()> {
    let out = Shared::new(out);
    let (inn, features) = (w.in_features(), w.out_features());
    with_element!(w.dtype(), E => parallel_for(w.num_tiles(), &|tile| {
        let first = tile * LANES;
        let len = LANES.min(features - first);
        let mut padded = [0.0; LANES];
        if let Some(bias) = bias {
            padded[..len].copy_from_slice(&bias[first..first + len]);
        }
        for row in 0..n {
            // SAFETY: the tile, the row and the output's piece of the row exist; this chunk alone writes it.
            unsafe {
                let tile = w.tiles::<E>().add(tile * inn * LANES);
                let out = out.get().add(row * features + first);
                one::<E>(isa, x.as_ptr().add(row * inn), tile, inn, &padded, out, len);
            }
        }
    }))
}

/// # Safety
/// `x` is valid for `inn`, `tile` for `inn * 16`, `out` for `len` elements.
#[inline(always)]
unsafe fn one_body<L: Lanes, E: Element>(
    x: *const f32,
    tile: *const E,
    inn: usize,
    bias: &[f32; LANES],
    out: *mut f32,
    len: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = L::splat(0.0);
        for k in 0..inn {
            let w: L = E::load(tile.add(k * LANES));
            sum = w.fma(L::splat(*x.add(k)), sum);
        }
        sum.add(L::load(bias.as_ptr())).store_first(out, len);
    }
}
multiversion! {
    unsafe fn one<E: Element>(
        x: *const f32, tile: *const E, inn: usize, bias: &[f32; LANES], out: *mut f32, len: usize,
    ) = one_body
}

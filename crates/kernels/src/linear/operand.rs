//! How rows of activations meet the tiles of a weight: as they are, rounded to bf16, or as pairs of bf16.
//!
//! An operand is one element of the packed rows; it covers one or two input features. Rounded rows give the same bits
//! whether they are multiplied one by one or, where the processor can, two at a time: its dot products of pairs are
//! two fused multiply-adds, the second of the pair first. (Numbers below 2^-126 are the exception: they count as zero there.)

use std::marker::PhantomData;

use half::bf16;

use crate::element::{Element, PairedBf16};
use crate::micro::{Ahead, PACKED, Rows, Sums, accumulate};
use crate::simd::Isa;

/// One element of packed rows.
pub(super) trait Operand: Copy {
    /// What sixteen of make the counterpart of one operand in a tile.
    type Weight: Copy;
    /// Input features that it covers.
    const FEATURES: usize;
    /// A row of activations is a row of operands already.
    const IN_PLACE: bool;

    /// Operands of a row.
    fn count(inn: usize) -> usize {
        inn.div_ceil(Self::FEATURES)
    }

    /// Weights from one tile to the next, divided by sixteen.
    fn tile_len(inn: usize) -> usize {
        Self::count(inn)
    }

    /// Operands of `row` from number `first` on.
    fn gather(row: &[f32], first: usize, to: &mut [Self]);

    /// `sums[r][t] (+)= x[r] · w[t] (+ bias[t])` over `len` operands of `R` rows, packed at `x`.
    ///
    /// # Safety
    /// As [`accumulate`], with `len` operands for its steps.
    unsafe fn accumulate<const R: usize, const T: usize>(
        isa: Isa,
        x: *const Self,
        tiles: [*const Self::Weight; T],
        len: usize,
        ahead: Ahead<T>,
        sums: Sums,
    );
}

/// An activation as it is.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Plain<E>(f32, PhantomData<E>);

/// An activation rounded to bf16.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Rounded(f32);

/// Two activations rounded to bf16, the first in the lower half.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Pair(u32);

// === impl Pair ===

impl Pair {
    /// Whether products of pairs can be computed on `isa`.
    pub(super) fn is_available(isa: Isa) -> bool {
        #[cfg(target_arch = "x86_64")]
        if isa == Isa::Avx512 {
            return is_x86_feature_detected!("avx512bf16");
        }
        let _ = isa;
        false
    }

    #[inline(always)]
    fn new(first: f32, second: f32) -> Self {
        Self(u32::from(rounded(first)) | u32::from(rounded(second)) << 16)
    }
}

/// The bits of the nearest bf16, ties to even, without a branch that vectors could not take.
#[inline(always)]
fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}

// === impl Operand ===

impl<E: Element> Operand for Plain<E> {
    type Weight = E;
    const FEATURES: usize = 1;
    const IN_PLACE: bool = true;

    fn tile_len(inn: usize) -> usize {
        E::padded(inn)
    }

    #[inline(always)]
    fn gather(row: &[f32], first: usize, to: &mut [Self]) {
        for (to, x) in to.iter_mut().zip(&row[first..]) {
            *to = Self(*x, PhantomData);
        }
    }

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const T: usize>(
        isa: Isa,
        x: *const Self,
        tiles: [*const E; T],
        len: usize,
        ahead: Ahead<T>,
        sums: Sums,
    ) {
        let rows = Rows { start: x.cast(), next_row: 0 };
        // SAFETY: the caller's promise.
        unsafe { accumulate::<E, PACKED, R, T>(isa, rows, tiles, len, ahead, sums) }
    }
}

impl Operand for Rounded {
    type Weight = PairedBf16;
    const FEATURES: usize = 1;
    const IN_PLACE: bool = false;

    fn tile_len(inn: usize) -> usize {
        PairedBf16::padded(inn)
    }

    #[inline(always)]
    fn gather(row: &[f32], first: usize, to: &mut [Self]) {
        for (to, x) in to.iter_mut().zip(&row[first..]) {
            *to = Self(bf16::from_bits(rounded(*x)).to_f32());
        }
    }

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const T: usize>(
        isa: Isa,
        x: *const Self,
        tiles: [*const PairedBf16; T],
        len: usize,
        ahead: Ahead<T>,
        sums: Sums,
    ) {
        // SAFETY: the caller's promise.
        unsafe { Plain::accumulate::<R, T>(isa, x.cast(), tiles, len, ahead, sums) }
    }
}

impl Operand for Pair {
    type Weight = [PairedBf16; 2];
    const FEATURES: usize = 2;
    const IN_PLACE: bool = false;

    #[inline(always)]
    fn gather(row: &[f32], first: usize, to: &mut [Self]) {
        let row = &row[2 * first..];
        let (pairs, rest) = row.as_chunks::<2>();
        for (to, [first, second]) in to.iter_mut().zip(pairs) {
            *to = Self::new(*first, *second);
        }
        if let (Some(to), [last]) = (to.get_mut(pairs.len()), rest) {
            *to = Self::new(*last, 0.0);
        }
    }

    #[inline(always)]
    unsafe fn accumulate<const R: usize, const T: usize>(
        isa: Isa,
        x: *const Self,
        tiles: [*const [PairedBf16; 2]; T],
        len: usize,
        ahead: Ahead<T>,
        sums: Sums,
    ) {
        debug_assert!(Self::is_available(isa));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise; whoever packs pairs has asked whether they are available.
        unsafe {
            pairs::accumulate::<R, T>(x.cast(), tiles.map(|tile| tile.cast()), len, ahead, sums);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (x, tiles, len, ahead, sums);
    }
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    //! Dot products of bf16 pairs.

    use std::arch::x86_64::*;

    use crate::element::LANES;
    use crate::micro::{Ahead, Sums};
    use crate::simd::{Avx512, Lanes as _};

    /// As [`crate::micro::accumulate`], with pairs.
    ///
    /// # Safety
    /// As there, with `len` pairs for its steps; AVX-512 F, BW, DQ, VL and BF16 are there.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
    pub(super) unsafe fn accumulate<const R: usize, const T: usize>(
        x: *const i32,
        tiles: [*const i32; T],
        len: usize,
        ahead: Ahead<T>,
        out: Sums,
    ) {
        // SAFETY: `k < len`, `r < R`, `t < T`, and the caller's promise. A prefetch may name any address.
        unsafe {
            let mut sums = out.begin::<Avx512, R, T>();
            for k in 0..len {
                for t in 0..T {
                    if k % 2 == 0 {
                        let touch = ahead.streams[t].wrapping_add(k / 4 * ahead.step + k % 4 * 64);
                        Avx512::prefetch(touch);
                        Avx512::prefetch(touch.wrapping_add(64));
                    }
                    let w = _mm512_loadu_si512(tiles[t].add(k * LANES).cast());
                    for r in 0..R {
                        let x = _mm512_set1_epi32(x.add(k * R + r).read());
                        let sum = _mm512_dpbf16_ps(sums[t][r].register(), pairs(w), pairs(x));
                        sums[t][r] = Avx512::from_register(sum);
                    }
                }
            }
            out.end(sums);
        }
    }

    #[inline(always)]
    fn pairs(words: __m512i) -> __m512bh {
        // SAFETY: both are 512 bits of any value.
        unsafe { std::mem::transmute(words) }
    }
}

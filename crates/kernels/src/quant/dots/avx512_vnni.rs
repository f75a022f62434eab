//! Dot products as one AVX-512 VNNI instruction, which multiplies unsigned with signed bytes.

use std::arch::x86_64::*;

use super::Dots;
use crate::simd::Avx512;

/// Sixteen sums in one register.
#[derive(Clone, Copy)]
pub(in crate::quant) struct Avx512VnniDots(__m512i);

// SAFETY of every block below: AVX-512 F, BW, DQ, VL and VNNI are there, and pointers are valid for 64 bytes, by the
// contract of the trait's methods.
impl Dots for Avx512VnniDots {
    type Floats = Avx512;
    type Codes = __m512i;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn lower(codes: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_and_si512(codes, _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn upper(codes: __m512i) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_and_si512(_mm512_srli_epi16::<4>(codes), _mm512_set1_epi8(15)) }
    }

    #[inline(always)]
    unsafe fn start_8(offset: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_set1_epi32(offset)) }
    }

    #[inline(always)]
    unsafe fn with_upper(lower: __m512i, plane: __m512i, from: usize, bits: usize) -> __m512i {
        // SAFETY: the trait's contract. Bits that words carry over from one byte to the other are masked away.
        unsafe {
            let moved = match from {
                0..4 => _mm512_sll_epi16(plane, _mm_cvtsi32_si128(4 - from as i32)),
                _ => _mm512_srl_epi16(plane, _mm_cvtsi32_si128(from as i32 - 4)),
            };
            let mask = _mm512_set1_epi8(if bits == 1 { 0x10 } else { 0x30 });
            _mm512_or_si512(lower, _mm512_and_si512(moved, mask))
        }
    }

    #[inline(always)]
    unsafe fn splat(sum: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_set1_epi32(sum)) }
    }

    #[inline(always)]
    unsafe fn add_8(self, codes: __m512i, x: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_dpbusd_epi32(self.0, codes, _mm512_set1_epi32(x))) }
    }

    #[inline(always)]
    unsafe fn add_6(self, codes: __m512i, x: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { self.add_8(codes, x) }
    }

    #[inline(always)]
    unsafe fn times(self, multiples: *const i8, plus: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let by = _mm512_cvtepi8_epi32(_mm_loadu_si128(multiples.cast()));
            Self(_mm512_add_epi32(_mm512_mullo_epi32(self.0, by), plus.0))
        }
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> Avx512 {
        // SAFETY: the trait's contract.
        unsafe { Avx512::from_register(_mm512_cvtepi32_ps(self.0)) }
    }
}

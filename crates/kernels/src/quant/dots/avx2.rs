//! Dot products in AVX2: pairs of bytes are multiplied and added in 16 bits, pairs of those in 32.

use std::arch::x86_64::*;

use super::Dots;
use crate::simd::Avx2;

/// Sums of lanes 0 to 7 and of lanes 8 to 15.
#[derive(Clone, Copy)]
pub(in crate::quant) struct Avx2Dots(__m256i, __m256i);

/// `sums` and the dot products of signed `codes` with `x`.
///
/// The instruction wants one side unsigned: the code gives its sign to the activation. Two products are at most
/// 2 * 128 * 127, which fits 16 bits as long as no code of an activation is -128.
#[inline(always)]
unsafe fn add_signed(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: AVX2 is there by the trait's contract.
    unsafe {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// `sums` and the dot products of unsigned `codes`, at most 63 each, with `x`.
#[inline(always)]
unsafe fn add_unsigned(sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: AVX2 is there by the trait's contract.
    unsafe {
        let pairs = _mm256_maddubs_epi16(codes, x);
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// `lower`, and the bits of `plane` from bit `from` on moved to bit 4, as far as `mask` has them. Bits that words carry over from
/// one byte to the other are masked away.
#[inline(always)]
unsafe fn with_bits(lower: __m256i, plane: __m256i, from: usize, mask: __m256i) -> __m256i {
    // SAFETY: AVX2 is there by the trait's contract.
    unsafe {
        let moved = match from {
            0..4 => _mm256_sll_epi16(plane, _mm_cvtsi32_si128(4 - from as i32)),
            _ => _mm256_srl_epi16(plane, _mm_cvtsi32_si128(from as i32 - 4)),
        };
        _mm256_or_si256(lower, _mm256_and_si256(moved, mask))
    }
}

// SAFETY of every block below: AVX2 is there, and pointers are valid for 64 bytes, by the contract of the trait's
// methods.
impl Dots for Avx2Dots {
    type Floats = Avx2;
    type Codes = (__m256i, __m256i);

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe {
            let from = from.cast::<__m256i>();
            (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)))
        }
    }

    #[inline(always)]
    unsafe fn lower(codes: Self::Codes) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            (_mm256_and_si256(codes.0, mask), _mm256_and_si256(codes.1, mask))
        }
    }

    #[inline(always)]
    unsafe fn upper(codes: Self::Codes) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe { Self::lower((_mm256_srli_epi16::<4>(codes.0), _mm256_srli_epi16::<4>(codes.1))) }
    }

    /// Codes of eight bits become signed ones, which have no offset.
    #[inline(always)]
    unsafe fn start_8(_: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_setzero_si256(), _mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn with_upper(lower: Self::Codes, plane: Self::Codes, from: usize, bits: usize) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe {
            let mask = _mm256_set1_epi8(if bits == 1 { 0x10 } else { 0x30 });
            (with_bits(lower.0, plane.0, from, mask), with_bits(lower.1, plane.1, from, mask))
        }
    }

    #[inline(always)]
    unsafe fn splat(sum: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_set1_epi32(sum), _mm256_set1_epi32(sum)) }
    }

    #[inline(always)]
    unsafe fn add_8(self, codes: Self::Codes, x: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let (x, offset) = (_mm256_set1_epi32(x), _mm256_set1_epi8(-128));
            Self(
                add_signed(self.0, _mm256_xor_si256(codes.0, offset), x),
                add_signed(self.1, _mm256_xor_si256(codes.1, offset), x),
            )
        }
    }

    #[inline(always)]
    unsafe fn add_6(self, codes: Self::Codes, x: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let x = _mm256_set1_epi32(x);
            Self(add_unsigned(self.0, codes.0, x), add_unsigned(self.1, codes.1, x))
        }
    }

    #[inline(always)]
    unsafe fn times(self, multiples: *const i8, plus: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let all = _mm_loadu_si128(multiples.cast());
            let (low, high) = (_mm256_cvtepi8_epi32(all), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(all)));
            Self(
                _mm256_add_epi32(_mm256_mullo_epi32(self.0, low), plus.0),
                _mm256_add_epi32(_mm256_mullo_epi32(self.1, high), plus.1),
            )
        }
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> Avx2 {
        // SAFETY: the trait's contract.
        unsafe { Avx2::from_registers(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
    }
}

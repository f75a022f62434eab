//! Sixteen lanes as one AVX-512 register.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Lanes;

/// Lanes 0 to 15.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// Bits by which a word moves left so that the lower half (lanes 0 to 7) or the upper half (lanes 8 to 15) of an
/// interleaved pair ends up as the upper bits of an f32.
static PAIR_SHIFTS: [i32; 16] = [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0];

// === impl Avx512 ===

impl Avx512 {
    #[inline(always)]
    pub(crate) fn from_register(lanes: __m512) -> Self {
        Self(lanes)
    }

    #[inline(always)]
    pub(crate) fn register(self) -> __m512 {
        self.0
    }
}

/// `2^n` for each whole `n` from -126 to 127.
#[inline(always)]
unsafe fn power(n: __m512i) -> __m512 {
    // SAFETY: AVX-512 is there by the trait's contract.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(n, _mm512_set1_epi32(127)))) }
}

// SAFETY of every block below: AVX-512 F, BW, DQ and VL are there, and pointers are valid for sixteen elements, by
// the contract of the trait's methods.
impl Lanes for Avx512 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_set1_ps(value)) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_loadu_ps(from)) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the trait's contract; the table has sixteen words.
        unsafe {
            let pairs = _mm512_broadcast_i64x4(_mm256_loadu_si256(from.cast()));
            let moved = _mm512_sllv_epi32(pairs, _mm512_loadu_si512(PAIR_SHIFTS.as_ptr().cast()));
            Self(_mm512_castsi512_ps(_mm512_and_si512(moved, _mm512_set1_epi32(0xffff_0000_u32 as i32))))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_firsts(from: *const bf16) -> Self {
        // SAFETY: the trait's contract, for sixteen pairs.
        unsafe { Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_bf16_seconds(from: *const bf16) -> Self {
        // SAFETY: the trait's contract, for sixteen pairs.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            Self(_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from.cast()), upper)))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_fmadd_ps(self.0, by.0, plus.0)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, exponent: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let whole = _mm512_cvttps_epi32(exponent.0);
            let first = _mm512_srai_epi32::<1>(whole);
            let second = _mm512_sub_epi32(whole, first);
            Self(_mm512_mul_ps(_mm512_mul_ps(self.0, power(first)), power(second)))
        }
    }

    #[inline(always)]
    unsafe fn keep_range(self, from: usize, to: usize, other: Self) -> Self {
        let below = |lane: usize| if lane >= 16 { u16::MAX } else { (1u16 << lane) - 1 };
        // SAFETY: the trait's contract.
        unsafe { Self(_mm512_mask_blend_ps(below(to) & !below(from), other.0, self.0)) }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: masked lanes are not read; the caller promises the first `len`.
        unsafe { Self(_mm512_maskz_loadu_ps(first_lanes(len), from)) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, len: usize) {
        // SAFETY: masked lanes are not written; the caller promises the first `len`.
        unsafe { _mm512_mask_storeu_ps(to, first_lanes(len), self.0) }
    }
}

#[inline(always)]
fn first_lanes(len: usize) -> u16 {
    if len >= 16 { u16::MAX } else { (1 << len) - 1 }
}

//! Sixteen lanes as two AVX2 registers.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::Lanes;

/// Lanes 0 to 7 and lanes 8 to 15.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

static RAMP: [i32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

// === impl Avx2 ===

impl Avx2 {
    /// From lanes 0 to 7 and lanes 8 to 15.
    #[inline(always)]
    pub(crate) fn from_registers(low: __m256, high: __m256) -> Self {
        Self(low, high)
    }
}

/// `2^n` for each whole `n` from -126 to 127.
#[inline(always)]
unsafe fn power(n: __m256i) -> __m256 {
    // SAFETY: AVX2 is there by the trait's contract.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127)))) }
}

#[inline(always)]
unsafe fn scale(value: __m256, exponent: __m256) -> __m256 {
    // SAFETY: AVX2 is there by the trait's contract.
    unsafe {
        let whole = _mm256_cvttps_epi32(exponent);
        let first = _mm256_srai_epi32::<1>(whole);
        let second = _mm256_sub_epi32(whole, first);
        _mm256_mul_ps(_mm256_mul_ps(value, power(first)), power(second))
    }
}

/// The upper sixteen bits of each of eight words in memory.
///
/// Written out for two reasons. The compiler would turn the mask into a blend, which on some cores competes with
/// multiply-adds for the same two units; a plain `and` runs on any of four. And it would keep words that are needed
/// twice in registers, of which six rows leave none; here the instruction reads them itself.
///
/// # Safety
/// `at` is readable for 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn upper_halves(at: *const __m256i) -> __m256i {
    let mask = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let upper: __m256i;
    // SAFETY: the instruction is one of AVX2 and reads 32 bytes of any alignment, which the caller promised.
    unsafe {
        std::arch::asm!(
            "vpand {upper}, {mask}, ymmword ptr [{at}]",
            upper = lateout(ymm_reg) upper,
            mask = in(ymm_reg) mask,
            at = in(reg) at,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    upper
}

/// Lanes above `low` and below `high`, of eight numbered lanes at `at`.
#[inline(always)]
unsafe fn inside(at: *const i32, low: __m256i, high: __m256i) -> __m256 {
    // SAFETY: AVX2 is there by the trait's contract, and eight numbers at `at`.
    unsafe {
        let lane = _mm256_loadu_si256(at.cast());
        _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(lane, low), _mm256_cmpgt_epi32(high, lane)))
    }
}

// SAFETY of every block below: AVX2, FMA and F16C are there, and pointers are valid for sixteen elements, by
// the contract of the trait's methods.
impl Lanes for Avx2 {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let v = _mm256_set1_ps(value);
            Self(v, v)
        }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let from = from.cast::<__m128i>();
            Self(_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1))))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let all = _mm_loadu_si128(from.cast());
            let (low, high) = (_mm256_cvtepi8_epi32(all), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(all)));
            Self(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let from = from.cast();
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_loadu_si256(from))),
                _mm256_castsi256_ps(upper_halves(from)),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_firsts(from: *const bf16) -> Self {
        // SAFETY: the trait's contract, for sixteen pairs.
        unsafe {
            let from = from.cast::<__m256i>();
            let (low, high) = (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)));
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_seconds(from: *const bf16) -> Self {
        // SAFETY: the trait's contract, for sixteen pairs.
        unsafe {
            let from = from.cast::<__m256i>();
            Self(_mm256_castsi256_ps(upper_halves(from)), _mm256_castsi256_ps(upper_halves(from.add(1))))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_fmadd_ps(self.0, by.0, plus.0), _mm256_fmadd_ps(self.1, by.1, plus.1)) }
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, exponent: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(scale(self.0, exponent.0), scale(self.1, exponent.1)) }
    }

    #[inline(always)]
    unsafe fn keep_range(self, from: usize, to: usize, other: Self) -> Self {
        // SAFETY: the trait's contract; the ramp has sixteen elements.
        unsafe {
            let low = _mm256_set1_epi32(from as i32 - 1);
            let high = _mm256_set1_epi32(to as i32);
            Self(
                _mm256_blendv_ps(other.0, self.0, inside(RAMP.as_ptr(), low, high)),
                _mm256_blendv_ps(other.1, self.1, inside(RAMP.as_ptr().add(8), low, high)),
            )
        }
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
}

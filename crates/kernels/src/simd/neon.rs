//! Sixteen lanes as four NEON registers.

use std::arch::aarch64::*;

use half::{bf16, f16};

use super::Lanes;

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
#[derive(Clone, Copy)]
pub(crate) struct Neon([float32x4_t; 4]);

static RAMP: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// `$value` with `$q` as 0, 1, 2 and 3: one for each register. A closure would lose the instruction set.
macro_rules! each_register {
    ($q:ident => $value:expr) => {
        [
            each_register!(@ 0, $q, $value),
            each_register!(@ 1, $q, $value),
            each_register!(@ 2, $q, $value),
            each_register!(@ 3, $q, $value),
        ]
    };
    (@ $at:literal, $q:ident, $value:expr) => {{
        let $q: usize = $at;
        $value
    }};
}
pub(crate) use each_register;

// === impl Neon ===

impl Neon {
    /// From lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
    #[inline(always)]
    pub(crate) fn from_registers(lanes: [float32x4_t; 4]) -> Self {
        Self(lanes)
    }
}

/// `2^n` for each whole `n` from -126 to 127.
#[inline(always)]
unsafe fn power(n: int32x4_t) -> float32x4_t {
    // SAFETY: NEON is there by the trait's contract.
    unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) }
}

#[inline(always)]
unsafe fn scale(value: float32x4_t, exponent: float32x4_t) -> float32x4_t {
    // SAFETY: NEON is there by the trait's contract.
    unsafe {
        let whole = vcvtq_s32_f32(exponent);
        let first = vshrq_n_s32::<1>(whole);
        let second = vsubq_s32(whole, first);
        vmulq_f32(vmulq_f32(value, power(first)), power(second))
    }
}

/// The lower halves of four words, as the upper halves of f32.
#[inline(always)]
unsafe fn lower_halves(words: uint32x4_t) -> float32x4_t {
    // SAFETY: NEON is there by the trait's contract.
    unsafe { vreinterpretq_f32_u32(vshlq_n_u32::<16>(words)) }
}

/// The upper halves of four words, as the upper halves of f32.
#[inline(always)]
unsafe fn upper_halves(words: uint32x4_t) -> float32x4_t {
    // SAFETY: NEON is there by the trait's contract.
    unsafe { vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff_0000))) }
}

/// Sixteen bytes as numbers of 32 bits.
///
/// # Safety
/// NEON is there, and `from` readable for sixteen bytes.
#[inline(always)]
pub(crate) unsafe fn widen_bytes(from: *const i8) -> [int32x4_t; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = vld1q_s8(from);
        let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
        [
            vmovl_s16(vget_low_s16(low)),
            vmovl_high_s16(low),
            vmovl_s16(vget_low_s16(high)),
            vmovl_high_s16(high),
        ]
    }
}

/// Lanes `from..to` of four numbered lanes at `at`.
#[inline(always)]
unsafe fn inside(at: *const u32, from: uint32x4_t, to: uint32x4_t) -> uint32x4_t {
    // SAFETY: NEON is there by the trait's contract, and four numbers at `at`.
    unsafe {
        let lane = vld1q_u32(at);
        vandq_u32(vcgeq_u32(lane, from), vcltq_u32(lane, to))
    }
}

// SAFETY of every block below: NEON is there, and pointers are valid for sixteen elements, by the contract of the
// trait's methods; `q` is below 4. Loads and stores take any alignment.
impl Lanes for Neon {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self([vdupq_n_f32(value); 4]) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => vld1q_f32(from.add(4 * q)))) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the trait's contract. Widening is part of NEON, unlike arithmetic in f16.
        unsafe {
            let from = from.cast::<u16>();
            Self(each_register!(q => vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(4 * q))))))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let from = from.cast::<u32>();
            let (low, high) = (vld1q_u32(from), vld1q_u32(from.add(4)));
            Self([lower_halves(low), lower_halves(high), upper_halves(low), upper_halves(high)])
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_firsts(from: *const bf16) -> Self {
        // SAFETY: the trait's contract, for sixteen pairs.
        unsafe { Self(each_register!(q => lower_halves(vld1q_u32(from.cast::<u32>().add(4 * q))))) }
    }

    #[inline(always)]
    unsafe fn load_bf16_seconds(from: *const bf16) -> Self {
        // SAFETY: the trait's contract, for sixteen pairs.
        unsafe { Self(each_register!(q => upper_halves(vld1q_u32(from.cast::<u32>().add(4 * q))))) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let whole = widen_bytes(from);
            Self(each_register!(q => vcvtq_f32_s32(whole[q])))
        }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            each_register!(q => vst1q_f32(to.add(4 * q), self.0[q]));
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => vaddq_f32(self.0[q], other.0[q]))) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => vsubq_f32(self.0[q], other.0[q]))) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => vmulq_f32(self.0[q], other.0[q]))) }
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => vdivq_f32(self.0[q], other.0[q]))) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => vfmaq_f32(plus.0[q], self.0[q], by.0[q]))) }
    }

    /// A choice by comparison: the instruction for the greater number gives NaN where either is.
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(each_register!(q => vbslq_f32(vcgtq_f32(self.0[q], other.0[q]), self.0[q], other.0[q])))
        }
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            Self(each_register!(q => vbslq_f32(vcltq_f32(self.0[q], other.0[q]), self.0[q], other.0[q])))
        }
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, exponent: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(each_register!(q => scale(self.0[q], exponent.0[q]))) }
    }

    #[inline(always)]
    unsafe fn keep_range(self, from: usize, to: usize, other: Self) -> Self {
        // SAFETY: the trait's contract; the ramp has sixteen elements.
        unsafe {
            let (from, to) = (vdupq_n_u32(from as u32), vdupq_n_u32(to as u32));
            Self(
                each_register!(q => vbslq_f32(inside(RAMP.as_ptr().add(4 * q), from, to), self.0[q], other.0[q])),
            )
        }
    }

    #[inline(always)]
    unsafe fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is allowed and changes nothing that a program can see.
        unsafe {
            std::arch::asm!(
                "prfm pldl1keep, [{at}]",
                at = in(reg) address,
                options(nomem, nostack, preserves_flags)
            );
        }
    }

    #[inline(always)]
    unsafe fn prefetch_far(address: *const u8) {
        // SAFETY: as in `prefetch`.
        unsafe {
            std::arch::asm!(
                "prfm pldl2keep, [{at}]",
                at = in(reg) address,
                options(nomem, nostack, preserves_flags)
            );
        }
    }
}

//! Dot products in NEON: one instruction of the `dotprod` extension, or products in 16 bits whose pairs are added.

use std::arch::aarch64::*;

use super::Dots;
use crate::simd::{Neon, each_register, widen_bytes};

/// Sums of lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15, by `dotprod` or by what every NEON has.
#[derive(Clone, Copy)]
pub(in crate::quant) struct NeonDots<const DOTPROD: bool>([int32x4_t; 4]);

/// `sums` and the dot products of four signed `codes` each with those of `x`.
///
/// Written out because the intrinsic is not stable yet.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_by_dotprod(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    let more: int32x4_t;
    // SAFETY: the instruction is one of the extension that this function enables; it touches registers alone.
    unsafe {
        std::arch::asm!(
            "sdot {sums:v}.4s, {codes:v}.16b, {x:v}.16b",
            sums = inlateout(vreg) sums => more,
            codes = in(vreg) codes,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    more
}

/// The same without the extension.
///
/// Two products are at most 2 * 128 * 127, which fits 16 bits as long as no code of an activation is -128.
#[inline(always)]
unsafe fn add_by_pairs(sums: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: NEON is there by the trait's contract.
    unsafe {
        let low = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
        let high = vmull_high_s8(codes, x);
        vpadalq_s16(sums, vpaddq_s16(low, high))
    }
}

// === impl NeonDots ===

impl<const DOTPROD: bool> NeonDots<DOTPROD> {
    /// Add the products of signed codes.
    #[inline(always)]
    unsafe fn add(self, codes: [int8x16_t; 4], x: i32) -> Self {
        // SAFETY: NEON, and `dotprod` where the type names it, are there by the trait's contract.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
            Self(each_register!(q => match DOTPROD {
                true => add_by_dotprod(self.0[q], codes[q], x),
                false => add_by_pairs(self.0[q], codes[q], x),
            }))
        }
    }
}

// SAFETY of every block below: NEON is there, and pointers are valid for 64 bytes, by the contract of the trait's
// methods; `q` is below 4.
impl<const DOTPROD: bool> Dots for NeonDots<DOTPROD> {
    type Floats = Neon;
    type Codes = [uint8x16_t; 4];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe { each_register!(q => vld1q_u8(from.add(16 * q))) }
    }

    #[inline(always)]
    unsafe fn lower(codes: Self::Codes) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe { each_register!(q => vandq_u8(codes[q], vdupq_n_u8(15))) }
    }

    #[inline(always)]
    unsafe fn upper(codes: Self::Codes) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe { each_register!(q => vshrq_n_u8::<4>(codes[q])) }
    }

    #[inline(always)]
    unsafe fn with_upper(lower: Self::Codes, plane: Self::Codes, from: usize, bits: usize) -> Self::Codes {
        // SAFETY: the trait's contract.
        unsafe {
            // To the left, or to the right where it is negative.
            let by = vdupq_n_s8(4 - from as i8);
            let mask = vdupq_n_u8(if bits == 1 { 0x10 } else { 0x30 });
            each_register!(q => vorrq_u8(lower[q], vandq_u8(vshlq_u8(plane[q], by), mask)))
        }
    }

    #[inline(always)]
    unsafe fn splat(sum: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self([vdupq_n_s32(sum); 4]) }
    }

    /// Codes of eight bits become signed ones, which have no offset.
    #[inline(always)]
    unsafe fn start_8(_: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self::splat(0) }
    }

    #[inline(always)]
    unsafe fn add_8(self, codes: Self::Codes, x: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let offset = vdupq_n_u8(0x80);
            self.add(each_register!(q => vreinterpretq_s8_u8(veorq_u8(codes[q], offset))), x)
        }
    }

    /// Codes of six bits are the same numbers with a sign.
    #[inline(always)]
    unsafe fn add_6(self, codes: Self::Codes, x: i32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { self.add(each_register!(q => vreinterpretq_s8_u8(codes[q])), x) }
    }

    #[inline(always)]
    unsafe fn times(self, multiples: *const i8, plus: Self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let by = widen_bytes(multiples);
            Self(each_register!(q => vmlaq_s32(plus.0[q], self.0[q], by[q])))
        }
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> Neon {
        // SAFETY: the trait's contract.
        unsafe { Neon::from_registers(each_register!(q => vcvtq_f32_s32(self.0[q]))) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PortableDots;
    use super::*;
    use crate::simd::Lanes as _;
    use crate::testing::noise;

    fn bytes(seed: u64) -> [u8; 64] {
        // Every third byte is an extreme one.
        let mut noise = noise(seed, 64).into_iter().map(|v| (v * 128.0) as i32 as u8).enumerate();
        std::array::from_fn(|_| match noise.next().unwrap() {
            (i, _) if i % 3 == 0 => [0x00, 0xff, 0x80][i / 3 % 3],
            (_, byte) => byte,
        })
    }

    /// All that can be computed from sixteen times four codes, a plane of upper bits and four codes of an activation.
    fn sums<D: Dots>(codes: &[u8; 64], plane: &[u8; 64], x: i32) -> Vec<[f32; 16]> {
        let mut all = Vec::new();
        // SAFETY: sixty-four bytes each; the caller names a type whose instruction set is there.
        unsafe {
            let mut push = |dots: D| {
                let mut floats = [0.0; 16];
                dots.to_floats().store(floats.as_mut_ptr());
                all.push(floats);
            };
            let multiples = plane.as_ptr().cast();
            let (codes, plane) = (D::load(codes.as_ptr()), D::load(plane.as_ptr()));
            let sum: i32 = x.to_le_bytes().iter().map(|x| i32::from(x.cast_signed())).sum();
            push(D::start_8(-128 * sum).add_8(codes, x));
            push(D::splat(sum).add_6(D::lower(codes), x).times(multiples, D::splat(-1000)));
            for nibbles in [D::lower(codes), D::upper(codes)] {
                push(D::splat(-3).add_6(nibbles, x));
                for (from, bits) in (0..8).map(|from| (from, 1)).chain([0, 2, 4, 6].map(|from| (from, 2))) {
                    push(D::splat(7).add_6(D::with_upper(nibbles, plane, from, bits), x));
                }
            }
        }
        all
    }

    /// Where `dotprod` is there, kernels take no other way: the one without it is looked at here.
    #[test]
    fn with_and_without_dotprod_sums_are_those_of_plain_rust() {
        for seed in 0..50 {
            let (codes, plane) = (bytes(seed), bytes(seed + 100));
            for x in [[127, 127, 127, 127], [-127; 4], [127, -127, 0, 1], [seed as i8, 5, -77, 100]] {
                let x = i32::from_le_bytes(x.map(i8::cast_unsigned));
                let plain = sums::<PortableDots>(&codes, &plane, x);
                assert_eq!(sums::<NeonDots<false>>(&codes, &plane, x), plain, "without dotprod");
                if std::arch::is_aarch64_feature_detected!("dotprod") {
                    assert_eq!(sums::<NeonDots<true>>(&codes, &plane, x), plain, "with dotprod");
                }
            }
        }
    }
}

//! Sixteen lanes of f32, the unit in which every kernel is written, and the choice of instruction set.
//!
//! A kernel is generic over [`Lanes`] and exists once; the portable type does lane by lane what the vector
//! types do, so all of them give the same bits. Nothing here sums across lanes in an order of its own.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::sync::OnceLock;

use half::{bf16, f16};

#[cfg(target_arch = "aarch64")]
pub(crate) use self::neon::{Neon, each_register, widen_bytes};
#[cfg(target_arch = "x86_64")]
pub(crate) use self::{avx2::Avx2, avx512::Avx512};
pub(crate) use self::{
    math::{ROUNDER, exp, tanh},
    portable::Portable,
};

/// Sixteen f32 lanes.
///
/// # Safety
/// Every method needs the instruction set that the type stands for; [`Isa::detect`] says which one is there.
/// Methods that take a pointer need it to be valid for sixteen elements, of any alignment.
pub(crate) trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn load_f16(from: *const f16) -> Self;
    unsafe fn load_i8(from: *const i8) -> Self;
    /// Interleaved order, see [`crate::element`].
    unsafe fn load_bf16(from: *const bf16) -> Self;
    /// The first of each of sixteen pairs: the lower halves of 32-bit words.
    unsafe fn load_bf16_firsts(from: *const bf16) -> Self;
    /// The second of each of sixteen pairs: the upper halves of 32-bit words.
    unsafe fn load_bf16_seconds(from: *const bf16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    /// `if self > other { self } else { other }`, so the right side where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`, so the right side where either is NaN.
    unsafe fn min(self, other: Self) -> Self;
    /// `self * 2^exponent` for whole exponents from -252 to 254, in two steps so that neither overflows early.
    unsafe fn scale_by_power(self, exponent: Self) -> Self;
    /// Lanes `from..to` of `self`, `other` elsewhere.
    unsafe fn keep_range(self, from: usize, to: usize, other: Self) -> Self;
    /// Bring the cache line at `address` into the first-level cache; never faults.
    unsafe fn prefetch(address: *const u8);
    /// The same into the second-level cache.
    unsafe fn prefetch_far(address: *const u8);

    /// The first `len` elements (at most sixteen), zeros after them.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, len: usize) -> Self {
        // SAFETY: `len` elements are readable by the caller's promise, sixteen when all are asked for.
        unsafe {
            if len >= 16 {
                return Self::load(from);
            }
            let mut lanes = [0.0f32; 16];
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), len);
            Self::load(lanes.as_ptr())
        }
    }

    /// Write the first `len` lanes (at most sixteen).
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, len: usize) {
        // SAFETY: `len` elements are writable by the caller's promise, sixteen when all are asked for.
        unsafe {
            if len >= 16 {
                return self.store(to);
            }
            let mut lanes = [0.0f32; 16];
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
        }
    }

    /// All lanes summed as a fixed tree.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the array has sixteen elements; the instruction set is the caller's promise.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let mut width = 8;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }

    /// The greatest lane; a NaN anywhere may be passed over.
    #[inline(always)]
    unsafe fn greatest(self) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: as in `sum`.
        unsafe { self.store(lanes.as_mut_ptr()) };
        let mut width = 8;
        while width > 0 {
            for i in 0..width {
                let (a, b) = (lanes[i], lanes[i + width]);
                lanes[i] = if a > b { a } else { b };
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// AVX-512 F, BW, DQ and VL, beside all of AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON, with the fused multiply-adds that are part of it on 64 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// What every machine has.
    Portable,
}

// === impl Isa ===

impl Isa {
    /// The best one that this machine has.
    pub(crate) fn detect() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| *Self::all().first().unwrap_or(&Self::Portable))
    }

    /// Whether there are 32 vector registers of sixteen lanes, not sixteen of eight or 32 of four.
    pub(crate) fn has_many_registers(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512 {
            return true;
        }
        false
    }

    /// Those that this machine has, the best one first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                all.push(Self::Avx512);
            }
            all.push(Self::Avx2);
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            all.push(Self::Neon);
        }
        all.push(Self::Portable);
        all
    }
}

/// Compile an `unsafe fn` whose body is generic over lanes for every instruction set, choosing at run time.
///
/// `multiversion! { unsafe fn name [E: Element; R, T] (a: A, b: B) = body }` makes `name::<E, R, T>(isa, a, b)`
/// out of `body::<L, E, R, T>(a, b)`; the brackets hold type and `const usize` parameters and may be absent.
/// Every function called by `body` must be `#[inline(always)]`, and closures are not: they lose the instruction set.
macro_rules! multiversion {
    (
        $(#[$meta:meta])*
        $vis:vis unsafe fn $name:ident $([$g:ident : $bound:path $(; $($c:ident),+)?])?
        ($($arg:ident : $ty:ty),* $(,)?) = $body:ident
    ) => {
        $(#[$meta])*
        /// # Safety
        /// `isa` must come from [`crate::simd::Isa::detect`] or be portable; the rest is the body's contract.
        $vis unsafe fn $name <$($g: $bound, $($(const $c: usize),+)?)?> (isa: $crate::simd::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            unsafe fn avx512 <$($g: $bound, $($(const $c: usize),+)?)?> ($($arg: $ty),*) {
                // SAFETY: the outer caller's promise.
                unsafe { $body::<$crate::simd::Avx512, $($g, $($($c),+)?)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2 <$($g: $bound, $($(const $c: usize),+)?)?> ($($arg: $ty),*) {
                // SAFETY: the outer caller's promise.
                unsafe { $body::<$crate::simd::Avx2, $($g, $($($c),+)?)?>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            unsafe fn neon <$($g: $bound, $($(const $c: usize),+)?)?> ($($arg: $ty),*) {
                // SAFETY: the outer caller's promise.
                unsafe { $body::<$crate::simd::Neon, $($g, $($($c),+)?)?>($($arg),*) }
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the outer caller's promise; the instruction set was detected.
                $crate::simd::Isa::Avx512 => unsafe { avx512::<$($g, $($($c),+)?)?>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the outer caller's promise; the instruction set was detected.
                $crate::simd::Isa::Avx2 => unsafe { avx2::<$($g, $($($c),+)?)?>($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: the outer caller's promise; the instruction set was detected.
                $crate::simd::Isa::Neon => unsafe { neon::<$($g, $($($c),+)?)?>($($arg),*) },
                // SAFETY: the outer caller's promise.
                $crate::simd::Isa::Portable => unsafe {
                    $body::<$crate::simd::Portable, $($g, $($($c),+)?)?>($($arg),*)
                },
            }
        }
    };
}
pub(crate) use multiversion;

//! Sixteen whole-number sums, the unit in which products of codes are written, on each instruction set.
//!
//! A dot product of four takes four stored codes of each of sixteen rows and four codes of an activation. All
//! implementations give the same numbers, exactly.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "aarch64")]
pub(super) use self::neon::NeonDots;
pub(super) use self::portable::PortableDots;
#[cfg(target_arch = "x86_64")]
pub(super) use self::{avx2::Avx2Dots, avx512_vnni::Avx512VnniDots};
use crate::simd::{Isa, Lanes};

/// Sixteen sums of 32-bit whole numbers.
///
/// # Safety
/// Every method needs the instruction set that the type stands for. Pointers must be valid for 64 bytes, or sixteen multiples.
pub(super) trait Dots: Copy {
    /// The lanes of floats that the sums become.
    type Floats: Lanes;
    /// Four stored codes of each of sixteen rows.
    type Codes: Copy;

    unsafe fn load(from: *const u8) -> Self::Codes;
    /// The lower four bits of each byte.
    unsafe fn lower(codes: Self::Codes) -> Self::Codes;
    /// The upper four bits of each byte, moved down.
    unsafe fn upper(codes: Self::Codes) -> Self::Codes;
    /// Bytes of `lower` below 16, with the `bits` (one or two) of each byte of `plane` from bit `from` on as bits 4 and 5.
    unsafe fn with_upper(lower: Self::Codes, plane: Self::Codes, from: usize, bits: usize) -> Self::Codes;
    /// Sixteen times the same sum.
    unsafe fn splat(sum: i32) -> Self;
    /// Where sums begin, so that codes of eight bits lose their offset of 128: `offset` is -128 times the sum of the
    /// activation's codes.
    unsafe fn start_8(offset: i32) -> Self;
    /// Add the products of codes of eight bits with four codes of an activation, none of which is -128.
    unsafe fn add_8(self, codes: Self::Codes, x: i32) -> Self;
    /// Add the products of unsigned codes of at most six bits.
    unsafe fn add_6(self, codes: Self::Codes, x: i32) -> Self;
    /// Each sum times its byte of `multiples`, and `plus`.
    unsafe fn times(self, multiples: *const i8, plus: Self) -> Self;
    unsafe fn to_floats(self) -> Self::Floats;
}

/// The instruction sets that dot products are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DotIsa {
    /// AVX-512 with its vector neural network instructions: one for a dot product of four.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// AVX2: pairs of bytes into 16 bits, pairs of those into 32.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON with the `dotprod` extension: one instruction for a dot product of four.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    /// NEON alone: products in 16 bits, whose pairs are added.
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

// === impl DotIsa ===

impl DotIsa {
    /// Whether there are 32 vector registers of sixteen lanes.
    pub(super) fn has_many_registers(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512Vnni {
            return true;
        }
        false
    }

    /// The best one for a kernel that is otherwise compiled for `isa`.
    pub(super) fn of(isa: Isa) -> Self {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if is_x86_feature_detected!("avx512vnni") => Self::Avx512Vnni,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx2 => Self::Avx2,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon if std::arch::is_aarch64_feature_detected!("dotprod") => Self::NeonDotprod,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Self::Neon,
            Isa::Portable => Self::Portable,
        }
    }
}

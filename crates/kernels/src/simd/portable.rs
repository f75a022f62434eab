//! Sixteen lanes in plain Rust: the twin that says what the vector types must compute.

use half::{bf16, f16};

use super::Lanes;
use crate::element::{Element, LANES};

/// Sixteen lanes, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; LANES]);

// === impl Portable ===

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

// No method needs more than the trait's own contract, and only those with a pointer need that.
impl Lanes for Portable {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: valid for sixteen elements by the trait's contract.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: valid for sixteen elements by the trait's contract.
        let row = unsafe { from.cast::<[f16; LANES]>().read_unaligned() };
        Self(row.map(Element::to_f32))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        // SAFETY: valid for sixteen elements by the trait's contract.
        let row = unsafe { from.cast::<[i8; LANES]>().read_unaligned() };
        Self(row.map(f32::from))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: valid for sixteen elements by the trait's contract.
        let row = unsafe { from.cast::<[bf16; LANES]>().read_unaligned() };
        Self(std::array::from_fn(|lane| Element::to_f32(row[bf16::slot(lane)])))
    }

    #[inline(always)]
    unsafe fn load_bf16_firsts(from: *const bf16) -> Self {
        // SAFETY: valid for sixteen pairs by the trait's contract.
        Self(unsafe { from.cast::<[[bf16; 2]; LANES]>().read_unaligned() }.map(|pair| pair[0].to_f32()))
    }

    #[inline(always)]
    unsafe fn load_bf16_seconds(from: *const bf16) -> Self {
        // SAFETY: valid for sixteen pairs by the trait's contract.
        Self(unsafe { from.cast::<[[bf16; 2]; LANES]>().read_unaligned() }.map(|pair| pair[1].to_f32()))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: valid for sixteen elements by the trait's contract.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(by.0[i], plus.0[i])))
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn scale_by_power(self, exponent: Self) -> Self {
        self.zip(exponent, |value, exponent| {
            let whole = exponent as i32;
            let first = whole >> 1;
            let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
            value * power(first) * power(whole.wrapping_sub(first))
        })
    }

    #[inline(always)]
    unsafe fn keep_range(self, from: usize, to: usize, other: Self) -> Self {
        Self(std::array::from_fn(|i| if i >= from && i < to { self.0[i] } else { other.0[i] }))
    }

    #[inline(always)]
    unsafe fn prefetch(_address: *const u8) {}

    #[inline(always)]
    unsafe fn prefetch_far(_address: *const u8) {}
}

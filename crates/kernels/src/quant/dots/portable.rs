//! Dot products in plain Rust: what the vector types must compute.

use super::Dots;
use crate::element::LANES;
use crate::simd::{Lanes as _, Portable};

/// Sixteen sums, one after the other.
#[derive(Clone, Copy)]
pub(in crate::quant) struct PortableDots([i32; LANES]);

impl PortableDots {
    #[inline(always)]
    fn add(self, codes: [[u8; 4]; LANES], x: i32, offset: i32) -> Self {
        let x = x.to_le_bytes().map(|x| i32::from(x.cast_signed()));
        Self(std::array::from_fn(|lane| {
            let products = codes[lane].iter().zip(x).map(|(code, x)| (i32::from(*code) - offset) * x);
            self.0[lane] + products.sum::<i32>()
        }))
    }
}

// No method needs more than the trait's own contract, and only `load` needs that.
impl Dots for PortableDots {
    type Floats = Portable;
    type Codes = [[u8; 4]; LANES];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self::Codes {
        // SAFETY: valid for 64 bytes by the trait's contract.
        unsafe { from.cast::<Self::Codes>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn lower(codes: Self::Codes) -> Self::Codes {
        codes.map(|four| four.map(|code| code & 15))
    }

    #[inline(always)]
    unsafe fn upper(codes: Self::Codes) -> Self::Codes {
        codes.map(|four| four.map(|code| code >> 4))
    }

    #[inline(always)]
    unsafe fn start_8(_: i32) -> Self {
        Self([0; LANES])
    }

    #[inline(always)]
    unsafe fn with_upper(lower: Self::Codes, plane: Self::Codes, from: usize, bits: usize) -> Self::Codes {
        let mask = (1 << bits) - 1;
        std::array::from_fn(|row| {
            std::array::from_fn(|k| lower[row][k] | (plane[row][k] >> from & mask) << 4)
        })
    }

    #[inline(always)]
    unsafe fn splat(sum: i32) -> Self {
        Self([sum; LANES])
    }

    #[inline(always)]
    unsafe fn add_8(self, codes: Self::Codes, x: i32) -> Self {
        self.add(codes, x, 128)
    }

    #[inline(always)]
    unsafe fn add_6(self, codes: Self::Codes, x: i32) -> Self {
        self.add(codes, x, 0)
    }

    #[inline(always)]
    unsafe fn times(self, multiples: *const i8, plus: Self) -> Self {
        // SAFETY: valid for sixteen bytes by the trait's contract.
        let by = unsafe { multiples.cast::<[i8; LANES]>().read_unaligned() };
        Self(std::array::from_fn(|lane| self.0[lane] * i32::from(by[lane]) + plus.0[lane]))
    }

    #[inline(always)]
    unsafe fn to_floats(self) -> Portable {
        let lanes = self.0.map(|sum| sum as f32);
        // SAFETY: sixteen numbers.
        unsafe { Portable::load(lanes.as_ptr()) }
    }
}

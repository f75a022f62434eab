//! How numbers lie in memory: the types of stored numbers, and the order of the sixteen lanes of a tile row.
//!
//! Weights and KV tiles are rows of sixteen stored numbers. f32, f16 and codes of eight bits lie in plain order. bf16 lies in pairs, so
//! that one 32-bit word holds two numbers and widening them is a shift (the lower half) and a mask (the upper half)
//! instead of two unpackings. In a KV tile lane `j` is paired with lane `j + 8` of its row; in a weight tile
//! ([`PairedBf16`]) row `k` is paired with row `k + 1` lane by lane, which is also what dot products of bf16 pairs want.

use half::{bf16, f16};

use crate::simd::{Lanes, ROUNDER};

/// Numbers in a tile row; the same on every instruction set, so that sums have the same order on all.
pub(crate) const LANES: usize = 16;

/// A number as it is stored.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Sums take row `k + 1` before row `k`, for even `k`.
    const ODD_FIRST: bool = false;
    /// Where lane `lane` lies in its row of sixteen, where rows lie one behind the other.
    fn slot(lane: usize) -> usize {
        lane
    }
    /// Where lane `lane` of row `k` lies in a tile.
    fn place(k: usize, lane: usize) -> usize {
        k * LANES + Self::slot(lane)
    }
    /// Rows of a tile that has `len`, counting what pads them.
    fn padded(len: usize) -> usize {
        len
    }

    /// Exactly the stored number.
    fn to_f32(self) -> f32;

    /// The nearest stored number, ties to even.
    fn from_f32(value: f32) -> Self;

    /// One row of sixteen, widened.
    ///
    /// # Safety
    /// `row` must be readable for sixteen elements, and the instruction set of `L` must be there.
    unsafe fn load<L: Lanes>(row: *const Self) -> L;

    /// Row `k` of a tile, widened, for even `k`.
    ///
    /// # Safety
    /// The row must be part of the tile, and the instruction set of `L` must be there.
    #[inline(always)]
    unsafe fn load_even<L: Lanes>(tile: *const Self, k: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { Self::load(tile.add(k * LANES)) }
    }

    /// Row `k + 1` of a tile, widened, for even `k`.
    ///
    /// # Safety
    /// The row must be part of the tile, and the instruction set of `L` must be there.
    #[inline(always)]
    unsafe fn load_odd<L: Lanes>(tile: *const Self, k: usize) -> L {
        // SAFETY: the caller's promise.
        unsafe { Self::load(tile.add((k + 1) * LANES)) }
    }
}

/// A bf16 of a weight tile, which lies beside the one of the next row.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct PairedBf16(bf16);

/// Run `$body` with the type name `$E` bound to the Rust type of a stored `$dtype`, as weight tiles have it.
macro_rules! with_weight_element {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F16 => {
                type $E = half::f16;
                $body
            }
            candle_core::DType::BF16 => {
                type $E = $crate::element::PairedBf16;
                $body
            }
            _ => {
                type $E = f32;
                $body
            }
        }
    };
}
pub(crate) use with_weight_element;

// === impl Element ===

impl Element for PairedBf16 {
    const ODD_FIRST: bool = true;

    #[inline(always)]
    fn place(k: usize, lane: usize) -> usize {
        k / 2 * 2 * LANES + 2 * lane + k % 2
    }

    #[inline(always)]
    fn padded(len: usize) -> usize {
        len.next_multiple_of(2)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self.0.to_f32()
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        Self(bf16::from_f32(value))
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(row: *const Self) -> L {
        // SAFETY: the caller's promise, of an even row: only those begin where a row is looked for.
        unsafe { Self::load_even(row, 0) }
    }

    #[inline(always)]
    unsafe fn load_even<L: Lanes>(tile: *const Self, k: usize) -> L {
        // SAFETY: the caller's promise; tiles are padded to whole pairs.
        unsafe { L::load_bf16_firsts(tile.add(k * LANES).cast()) }
    }

    #[inline(always)]
    unsafe fn load_odd<L: Lanes>(tile: *const Self, k: usize) -> L {
        // SAFETY: the caller's promise; tiles are padded to whole pairs.
        unsafe { L::load_bf16_seconds(tile.add(k * LANES).cast()) }
    }
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(row: *const Self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(row) }
    }
}

impl Element for f16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(row: *const Self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(row) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn slot(lane: usize) -> usize {
        2 * (lane % 8) + lane / 8
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(row: *const Self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_bf16(row) }
    }
}

impl Element for i8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        // The conversion itself rounds towards zero; beyond the range of codes it ends at the last one.
        ((value + ROUNDER) - ROUNDER) as Self
    }

    #[inline(always)]
    unsafe fn load<L: Lanes>(row: *const Self) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_i8(row) }
    }
}

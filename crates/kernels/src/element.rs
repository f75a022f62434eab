//! How numbers lie in memory: the stored dtypes, and the order of the sixteen lanes of a tile row.
//!
//! Weights and KV tiles are rows of sixteen stored numbers. f32 and f16 lie in plain order. bf16 lies
//! interleaved, lane `j` beside lane `j + 8`: one 32-bit word then holds two lanes, and widening a row is a
//! shift (lower halves, lanes 0 to 7) and a mask (upper halves, lanes 8 to 15) instead of two unpackings.

use candle_core::DType;
use half::{bf16, f16};

use crate::error::{KernelError, Result};
use crate::simd::Lanes;

/// Numbers in a tile row; the same on every instruction set, so that sums have the same order on all.
pub(crate) const LANES: usize = 16;

/// The stored dtypes.
pub(crate) const STORED: &[DType] = &[DType::F32, DType::F16, DType::BF16];

/// A number as it is stored.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// Where lane `lane` lies in its row of sixteen.
    fn slot(lane: usize) -> usize {
        lane
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
}

/// Bytes of one stored number.
///
/// # Errors
/// [`KernelError::Dtype`] for a dtype that is not stored.
pub(crate) fn stored_bytes(op: &'static str, what: &'static str, dtype: DType) -> Result<usize> {
    match dtype {
        DType::F32 => Ok(4),
        DType::F16 | DType::BF16 => Ok(2),
        found => Err(KernelError::Dtype { op, what, found, wanted: STORED }),
    }
}

/// Run `$body` with the type name `$E` bound to the Rust type of a stored `$dtype`.
macro_rules! with_element {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F16 => {
                type $E = half::f16;
                $body
            }
            candle_core::DType::BF16 => {
                type $E = half::bf16;
                $body
            }
            _ => {
                type $E = f32;
                $body
            }
        }
    };
}
pub(crate) use with_element;

// === impl Element ===

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

//! How the numbers of a packed weight lie in memory, and what they cost there.

use candle_core::DType;

use crate::element::LANES;
use crate::quant::{Q4, Q8, QuantTile};
use crate::stored::Stored;

/// How the numbers of a [`PackedWeight`](crate::PackedWeight) lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Whole numbers from -127 to 127, and one f16 scale for each 32 of a row: 8.5 bits a weight.
    Q8,
    /// Whole numbers from -8 to 7, and one f16 scale for each 32 of a row: 4.5 bits a weight.
    Q4,
}

// === impl Format ===

impl Format {
    /// The format of unquantised weights of this dtype; `None` for dtypes that no weight has.
    #[must_use]
    pub fn from_dtype(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::BF16),
            _ => None,
        }
    }

    /// The dtype of unquantised weights; `None` when the numbers are codes.
    #[must_use]
    pub fn dtype(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::BF16 => Some(DType::BF16),
            Self::Q8 | Self::Q4 => None,
        }
    }

    /// The name of this format in configuration files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// The encoding of rows that packs into this format without a change of any number.
    #[must_use]
    pub fn stored(self) -> Stored {
        match self {
            Self::F32 => Stored::F32,
            Self::F16 => Stored::F16,
            Self::BF16 => Stored::BF16,
            Self::Q8 => Stored::Q8_0,
            Self::Q4 => Stored::Q4_0,
        }
    }

    /// Bytes of a packed `[out, inn]` matrix, padding included; `None` when that is more than can be counted.
    #[must_use]
    pub fn packed_bytes(self, out: usize, inn: usize) -> Option<usize> {
        out.div_ceil(LANES).checked_mul(self.tile_bytes(inn)?)
    }

    /// Bytes of the sixteen rows that are packed together.
    pub(crate) fn tile_bytes(self, inn: usize) -> Option<usize> {
        match self {
            Self::F32 => inn.checked_mul(4 * LANES),
            Self::F16 => inn.checked_mul(2 * LANES),
            Self::BF16 => inn.checked_next_multiple_of(2)?.checked_mul(2 * LANES),
            Self::Q8 => Q8::tile_bytes(inn),
            Self::Q4 => Q4::tile_bytes(inn),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

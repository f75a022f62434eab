//! How the numbers of a packed weight lie in memory, and what they cost there.

use candle_core::DType;

use crate::element::LANES;
use crate::quant::{QuantTile, with_tile};
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
    /// Whole numbers from 0 to 15, and for each 32 of a row a scale and a minimum, six-bit multiples of those of 256: 4.6
    /// bits a weight.
    Q4K,
    /// As `Q4K` with whole numbers up to 31: 5.6 bits a weight.
    Q5K,
    /// Whole numbers from -32 to 31, and for each sixteen of a row a scale, an eight-bit multiple of that of 256: 6.6 bits
    /// a weight.
    Q6K,
    /// Floats of eight bits, four of them exponent (e4m3), and one f32 scale for each row. On GPUs alone.
    Fp8,
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
            Self::Q8 | Self::Q4 | Self::Q4K | Self::Q5K | Self::Q6K | Self::Fp8 => None,
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
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Fp8 => "fp8",
        }
    }

    /// The encoding of rows that packs into this format without a change of any number; f32 where files have none.
    #[must_use]
    pub fn stored(self) -> Stored {
        match self {
            Self::F32 => Stored::F32,
            Self::F16 => Stored::F16,
            Self::BF16 => Stored::BF16,
            Self::Q8 => Stored::Q8_0,
            Self::Q4 => Stored::Q4_0,
            Self::Q4K => Stored::Q4_K,
            Self::Q5K => Stored::Q5_K,
            Self::Q6K => Stored::Q6_K,
            Self::Fp8 => Stored::F32,
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
            _ => with_tile!(self, Q => Q::tile_bytes(inn), _ => None),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

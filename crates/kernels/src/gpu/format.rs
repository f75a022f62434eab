//! How the numbers of a weight matrix lie in the memory of a GPU, and what they cost there.

use candle_core::DType;

use crate::error::{KernelError, Result};
use crate::format::Format;

/// Numbers of a row that are read together: rows are filled up to a multiple of it.
pub(crate) const STEP: usize = 64;
/// Rows that lie together, unless weights are f32.
pub(crate) const TILE: usize = 16;
/// Numbers of a row that share a scale where blocks have scales.
pub(crate) const SCALED: usize = 32;
/// Scales of a row that are read together: rows of scales are filled up to a multiple of it.
const SCALES: usize = 8;

/// How the numbers of a [`GpuMatrix`](super::GpuMatrix) lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GpuFormat {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Floats of eight bits, four of them exponent (e4m3), and one f32 scale for each row.
    Fp8,
    /// Whole numbers from -127 to 127, and one f16 scale for each 32 of a row: 8.5 bits a weight.
    Q8,
    /// Whole numbers from -8 to 7, and one f16 scale for each 32 of a row: 4.5 bits a weight.
    Q4,
}

// === impl GpuFormat ===

impl GpuFormat {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::BF16, Self::Fp8, Self::Q8, Self::Q4];

    /// The format of unquantised weights of this dtype; `None` for dtypes that no weight has.
    #[must_use]
    pub fn from_dtype(dtype: DType) -> Option<Self> {
        Format::from_dtype(dtype)?.try_into().ok()
    }

    /// The dtype of unquantised weights; `None` when the numbers are codes.
    #[must_use]
    pub fn dtype(self) -> Option<DType> {
        Format::from(self).dtype()
    }

    /// The name of this format in configuration files and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Format::from(self).as_str()
    }

    /// Bytes of an `[out, inn]` matrix in device memory; `None` when that is more than can be counted.
    #[must_use]
    pub fn num_bytes(self, out: usize, inn: usize) -> Option<usize> {
        self.code_bytes(out, inn)?.checked_add(out.checked_mul(self.row_scale_bytes(inn))?)
    }

    /// Bytes of a step of codes.
    pub(crate) fn step_bytes(self) -> usize {
        match self {
            Self::F32 => 4 * STEP,
            Self::F16 | Self::BF16 => 2 * STEP,
            Self::Fp8 | Self::Q8 => STEP,
            Self::Q4 => STEP / 2,
        }
    }

    /// Bytes of the codes of a matrix.
    pub(crate) fn code_bytes(self, out: usize, inn: usize) -> Option<usize> {
        let rows = match self {
            Self::F32 => out,
            _ => out.checked_next_multiple_of(TILE)?,
        };
        rows.checked_mul(self.row_bytes(inn)?)
    }

    /// Bytes of the codes of a row.
    pub(crate) fn row_bytes(self, inn: usize) -> Option<usize> {
        inn.div_ceil(STEP).checked_mul(self.step_bytes())
    }

    /// Bytes of the scales of a row.
    pub(crate) fn row_scale_bytes(self, inn: usize) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Fp8 => size_of::<f32>(),
            Self::Q8 | Self::Q4 => inn.div_ceil(SCALED * SCALES) * SCALES * size_of::<u16>(),
        }
    }
}

impl TryFrom<Format> for GpuFormat {
    type Error = KernelError;

    fn try_from(format: Format) -> Result<Self> {
        match format {
            Format::F32 => Ok(Self::F32),
            Format::F16 => Ok(Self::F16),
            Format::BF16 => Ok(Self::BF16),
            Format::Fp8 => Ok(Self::Fp8),
            Format::Q8 => Ok(Self::Q8),
            Format::Q4 => Ok(Self::Q4),
            Format::Q4K | Format::Q5K | Format::Q6K => {
                Err(KernelError::shape("weight matrix", format!("kernels of GPUs do not read {format}")))
            }
        }
    }
}

impl From<GpuFormat> for Format {
    fn from(format: GpuFormat) -> Self {
        match format {
            GpuFormat::F32 => Self::F32,
            GpuFormat::F16 => Self::F16,
            GpuFormat::BF16 => Self::BF16,
            GpuFormat::Fp8 => Self::Fp8,
            GpuFormat::Q8 => Self::Q8,
            GpuFormat::Q4 => Self::Q4,
        }
    }
}

impl std::fmt::Display for GpuFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

//! Where a model computes, and with which type of activations.

use candle_core::DType;
use vlinders_device::{Gpu, GpuTensor, Tensor};

use crate::LayerError;

/// Where the weights, the cache and the activations of a model are.
#[derive(Debug, Clone, Default)]
pub enum Place {
    /// In memory of the host; activations are f32.
    #[default]
    Cpu,
    /// In memory of a GPU.
    Gpu {
        /// The device.
        gpu: Gpu,
        /// Type of activations, norms and biases: BF16, F16 or F32.
        dtype: DType,
    },
}

// === impl Place ===

impl Place {
    /// The device, unless it is the CPU.
    #[must_use]
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Cpu => None,
            Self::Gpu { gpu, .. } => Some(gpu),
        }
    }

    /// The type of activations on a GPU; `None` on the CPU.
    #[must_use]
    pub fn activations(&self) -> Option<DType> {
        match self {
            Self::Cpu => None,
            Self::Gpu { dtype, .. } => Some(*dtype),
        }
    }

    /// Numbers of a norm or a bias, in the type of activations.
    pub(crate) fn put_vector(&self, numbers: candle_core::Tensor) -> Result<Tensor, LayerError> {
        match self {
            Self::Cpu => Ok(numbers.into()),
            Self::Gpu { gpu, dtype } => Ok(GpuTensor::upload(gpu, &numbers.to_dtype(*dtype)?)?.into()),
        }
    }

    /// Numbers of a table, in f32.
    pub(crate) fn put_table(&self, numbers: candle_core::Tensor) -> Result<Tensor, LayerError> {
        match self {
            Self::Cpu => Ok(numbers.into()),
            Self::Gpu { gpu, .. } => Ok(GpuTensor::upload(gpu, &numbers)?.into()),
        }
    }
}

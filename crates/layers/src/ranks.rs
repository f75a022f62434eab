//! What layers ask of other ranks, with activations on any device.
//!
//! Ranks on GPUs that have a way to each other use it, and nothing is waited for. Otherwise the communicator, which knows no devices,
//! gets numbers in f32 in memory of the host: that is right everywhere, and slow.

use std::sync::Arc;

use candle_core::DType;
use vlinders_comm::Communicator;
use vlinders_device::{GpuTensor, Tensor};
use vlinders_kernels::gpu::GpuGroup;

use crate::{LayerError, Span};

/// The ranks among which a model is split, as one of them sees them.
#[derive(Clone)]
pub struct Ranks {
    communicator: Arc<dyn Communicator>,
    gpus: Option<Arc<GpuGroup>>,
}

// === impl Ranks ===

impl Ranks {
    /// The ranks of `communicator`, whose GPUs have a way of their own to each other.
    #[must_use]
    pub fn with_gpus(communicator: Arc<dyn Communicator>, gpus: Option<Arc<GpuGroup>>) -> Self {
        Self { communicator, gpus }
    }

    /// How they talk about everything else.
    #[must_use]
    pub fn communicator(&self) -> &dyn Communicator {
        &*self.communicator
    }

    /// The sum of `x` over all ranks.
    ///
    /// # Errors
    /// When the group is broken, or the device fails.
    pub(crate) fn all_reduce(&self, x: Tensor) -> Result<Tensor, LayerError> {
        if self.communicator.size() == 1 {
            return Ok(x);
        }
        match (x, &self.gpus) {
            (Tensor::Cpu(x), _) => Ok(self.communicator.all_reduce(&x)?.into()),
            (Tensor::Gpu(x), Some(gpus)) => Ok(gpus.all_reduce(&x)?.into()),
            (Tensor::Gpu(x), None) => {
                let sum = self.communicator.all_reduce(&on_host(&x)?)?;
                let result = x.gpu().empty(x.dims(), x.dtype())?;
                result.write(&sum.to_dtype(x.dtype())?)?;
                Ok(result.into())
            }
        }
    }

    /// The `x` of all ranks, joined along the last dimension, on the first rank; that dimension is split as `Span::share` splits `all`.
    ///
    /// # Errors
    /// When the group is broken, or the device fails.
    pub(crate) fn gather(&self, x: Tensor, all: usize) -> Result<Option<Tensor>, LayerError> {
        let ranks = self.communicator.size();
        if ranks == 1 {
            return Ok(Some(x));
        }
        match (x, &self.gpus) {
            (Tensor::Cpu(x), _) => Ok(self.communicator.gather(&x, 0)?.map(Tensor::Cpu)),
            (Tensor::Gpu(x), Some(gpus)) => {
                let columns: Vec<_> = (0..ranks).map(|rank| Span::of_rank(all, rank, ranks).len()).collect();
                Ok(gpus.gather(&x, &columns)?.map(Tensor::Gpu))
            }
            (Tensor::Gpu(x), None) => {
                let Some(all) = self.communicator.gather(&on_host(&x)?, 0)? else { return Ok(None) };
                let result = x.gpu().empty(all.dims(), x.dtype())?;
                result.write(&all.to_dtype(x.dtype())?)?;
                Ok(Some(result.into()))
            }
        }
    }
}

impl<C: Communicator + 'static> From<Arc<C>> for Ranks {
    fn from(communicator: Arc<C>) -> Self {
        Self { communicator, gpus: None }
    }
}

impl From<Arc<dyn Communicator>> for Ranks {
    fn from(communicator: Arc<dyn Communicator>) -> Self {
        Self { communicator, gpus: None }
    }
}

fn on_host(x: &GpuTensor) -> Result<candle_core::Tensor, LayerError> {
    Ok(x.to_cpu()?.to_dtype(DType::F32)?)
}

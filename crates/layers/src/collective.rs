//! What layers ask of other ranks, with activations on any device.
//!
//! A communicator that does not know devices gets numbers in f32 in memory of the host. That is right everywhere, and slow: the
//! device is waited for.

use candle_core::DType;
use vlinders_comm::Communicator;
use vlinders_device::{GpuTensor, Tensor};

use crate::LayerError;

/// The sum of `x` over all ranks.
///
/// # Errors
/// When the group is broken, or the device fails.
pub(crate) fn all_reduce(communicator: &dyn Communicator, x: Tensor) -> Result<Tensor, LayerError> {
    if communicator.size() == 1 {
        return Ok(x);
    }
    match x {
        Tensor::Cpu(x) => Ok(communicator.all_reduce(&x)?.into()),
        Tensor::Gpu(x) => {
            let sum = communicator.all_reduce(&on_host(&x)?)?;
            let result = x.gpu().empty(x.dims(), x.dtype())?;
            result.write(&sum.to_dtype(x.dtype())?)?;
            Ok(result.into())
        }
    }
}

/// The `x` of all ranks, joined along the last dimension, on the first rank.
///
/// # Errors
/// When the group is broken, or the device fails.
pub(crate) fn gather(communicator: &dyn Communicator, x: Tensor) -> Result<Option<Tensor>, LayerError> {
    if communicator.size() == 1 {
        return Ok(Some(x));
    }
    match x {
        Tensor::Cpu(x) => Ok(communicator.gather(&x, 0)?.map(Tensor::Cpu)),
        Tensor::Gpu(x) => {
            let Some(all) = communicator.gather(&on_host(&x)?, 0)? else { return Ok(None) };
            let result = x.gpu().empty(all.dims(), x.dtype())?;
            result.write(&all.to_dtype(x.dtype())?)?;
            Ok(Some(result.into()))
        }
    }
}

fn on_host(x: &GpuTensor) -> Result<candle_core::Tensor, LayerError> {
    Ok(x.to_cpu()?.to_dtype(DType::F32)?)
}

//! How the GPUs of a model's ranks find a way to each other.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use vlinders_comm::Communicator;
use vlinders_device::{DeviceError, Gpu, GpuLinks};
use vlinders_kernels::gpu::{GpuGroup, Peers};
use vlinders_layers::LayerError;

/// The best way that all ranks have: memory of each other, where they are threads of one process (`peers`), else links of NCCL. `None` is
/// the host, and said aloud.
///
/// # Errors
/// When the group is broken, or a device fails.
pub(crate) fn join(
    gpu: &Gpu,
    communicator: &dyn Communicator,
    peers: Option<&Peers>,
) -> Result<Option<Arc<GpuGroup>>, LayerError> {
    let (rank, size) = (communicator.rank(), communicator.size());
    if size == 1 {
        return Ok(None);
    }
    if let Some(peers) = peers {
        peers.bring(gpu, rank)?;
        communicator.barrier()?;
        let group = peers.join(gpu, rank)?;
        if all(communicator, group.is_some())? {
            tracing::info!(rank, "GPUs of ranks reach each other's memory");
            return Ok(group.map(|group| Arc::new(GpuGroup::Peers(group))));
        }
    }
    let id = GpuLinks::fresh_id(gpu);
    if !all(communicator, id.is_ok())? {
        let reason = id.err().map_or("NCCL is missing at another rank".to_owned(), |error| error.to_string());
        tracing::warn!(rank, "sums of ranks pass through the host, which is slow: {reason}");
        return Ok(None);
    }
    let mut id = id?;
    communicator.broadcast_bytes(&mut id, 0)?;
    let links = GpuLinks::join(gpu, &id, rank, size, &|| communicator.broken().is_some());
    // Who has left said why.
    let links = links.map_err(|error| match communicator.broken() {
        Some(reason) => DeviceError::Links(reason),
        None => error,
    })?;
    tracing::info!(rank, "GPUs of ranks send to each other");
    Ok(Some(Arc::new(GpuGroup::Links(links))))
}

/// Whether it is so for all ranks.
fn all(communicator: &dyn Communicator, is_so: bool) -> Result<bool, LayerError> {
    let own = Tensor::new(&[u32::from(is_so)], &Device::Cpu)?;
    let votes = communicator.all_gather(&own)?.to_vec1::<u32>()?;
    Ok(votes.iter().all(|vote| *vote == 1))
}

//! Who holds which device memory, and how it comes back.

use std::sync::Arc;

use crate::{DeviceError, Gpu, Result};

/// Memory of a device that stays until its last handle is dropped.
#[derive(Clone)]
pub struct DeviceBuffer {
    region: Arc<Region>,
}

/// A run of device memory with one owner.
pub(crate) struct Region {
    gpu: Gpu,
    address: u64,
    bytes: usize,
    /// Whether it is an allocation of its own, and not a part of the room for intermediate results.
    own: bool,
}

// === impl Region ===

impl Region {
    pub(crate) fn allocate(gpu: &Gpu, bytes: usize) -> Result<Self> {
        let address = gpu.driver().allocate(bytes.max(1))?;
        Ok(Self { gpu: gpu.clone(), address, bytes, own: true })
    }

    pub(crate) fn in_room(gpu: &Gpu, address: u64, bytes: usize) -> Self {
        Self { gpu: gpu.clone(), address, bytes, own: false }
    }

    pub(crate) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.own {
            self.gpu.driver().free(self.address);
        } else {
            self.gpu.give_back(self.address, self.bytes);
        }
    }
}

// === impl DeviceBuffer ===

impl DeviceBuffer {
    pub(crate) fn new(gpu: &Gpu, bytes: usize) -> Result<Self> {
        Ok(Self { region: Arc::new(Region::allocate(gpu, bytes)?) })
    }

    pub(crate) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.region.gpu
    }

    /// Its first byte, as kernels know it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.region.address
    }

    /// Its length.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.region.bytes
    }

    pub(crate) fn check(&self, offset: usize, bytes: usize) -> Result<()> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.num_bytes() => Ok(()),
            _ => Err(DeviceError::Tensor(format!(
                "{bytes} bytes at {offset} are not in a buffer of {}",
                self.num_bytes()
            ))),
        }
    }
}

impl std::fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceBuffer({} bytes)", self.num_bytes())
    }
}

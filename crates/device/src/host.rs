//! Memory of the host that a device copies to and from by itself, and points in its work to wait for.

use crate::{DeviceError, Gpu, Result};

/// Memory of the host that stays where it is, so that copies need no help of the program.
///
/// Whoever asked for a copy leaves it alone until an [`Event`] that was recorded behind it is reached.
pub struct HostBuffer {
    gpu: Gpu,
    memory: *mut u8,
    bytes: usize,
}

// SAFETY: it is the only owner of its memory, which no thread is bound to.
unsafe impl Send for HostBuffer {}

/// A point in the work of a device.
pub struct Event {
    gpu: Gpu,
    event: u64,
}

// === impl HostBuffer ===

impl HostBuffer {
    pub(crate) fn new(gpu: &Gpu, bytes: usize) -> Result<Self> {
        let memory = gpu.driver().allocate_host(bytes.max(1))?;
        // SAFETY: the driver gave that many bytes, which nobody else has.
        unsafe { memory.write_bytes(0, bytes.max(1)) };
        Ok(Self { gpu: gpu.clone(), memory, bytes })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.memory
    }

    pub(crate) fn check(&self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes {
            Ok(())
        } else {
            Err(DeviceError::Tensor(format!("{bytes} bytes are not in a host buffer of {}", self.bytes)))
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is initialised, and ours.
        unsafe { std::slice::from_raw_parts(self.memory, self.bytes) }
    }

    /// Its bytes, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory, self.bytes) }
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        // A copy may still be under way.
        let _ = self.gpu.wait();
        self.gpu.driver().free_host(self.memory, self.bytes.max(1));
    }
}

// === impl Event ===

impl Event {
    pub(crate) fn record(gpu: &Gpu) -> Result<Self> {
        Ok(Self { gpu: gpu.clone(), event: gpu.driver().record()? })
    }

    /// Wait until it is reached.
    ///
    /// # Errors
    /// When anything before it has failed.
    pub fn wait(&self) -> Result<()> {
        self.gpu.driver().wait_for(self.event)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.gpu.driver().free_event(self.event);
    }
}

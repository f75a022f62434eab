//! Memory of the host that a device copies to and from by itself, flags that it looks at, and points in its work to wait for.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{DeviceBuffer, DeviceError, Gpu, Result};

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

/// A number in memory of the host, 0 or 1, that kernels look at while they run.
pub struct HostFlag {
    memory: HostBuffer,
}

// SAFETY: its memory is only used as an atomic.
unsafe impl Sync for HostFlag {}

/// A point in the work of a device.
pub struct Event {
    gpu: Gpu,
    event: u64,
}

/// Two pieces of such memory that copies to a device leave from by turns: one is filled while the device may still read the other.
pub struct Staging {
    /// Each with the point behind the copy that last left from it.
    pieces: [(HostBuffer, Option<Event>); 2],
    turn: usize,
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

    pub(crate) fn check(&self, part: &Range<usize>) -> Result<()> {
        if part.start <= part.end && part.end <= self.bytes {
            Ok(())
        } else {
            Err(DeviceError::Tensor(format!("bytes {part:?} are not in a host buffer of {}", self.bytes)))
        }
    }

    /// Its bytes, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialised, and ours.
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

// === impl HostFlag ===

impl HostFlag {
    /// A flag that is down.
    ///
    /// # Errors
    /// When the system has no memory that can be locked.
    pub fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self { memory: gpu.allocate_host(size_of::<AtomicU32>())? })
    }

    fn number(&self) -> &AtomicU32 {
        // SAFETY: the memory lives as long as this, is aligned as all allocations are, and nobody sees it in another way.
        unsafe { AtomicU32::from_ptr(self.memory.as_ptr().cast()) }
    }

    /// Put it up, for good. Kernels that run see it soon.
    pub fn raise(&self) {
        self.number().store(1, Ordering::Release);
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.number().load(Ordering::Acquire) == 1
    }

    /// The number, as kernels know it: u32.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.memory.as_ptr() as usize as u64
    }
}

// === impl Staging ===

impl Staging {
    /// Room for copies of up to `bytes`.
    ///
    /// # Errors
    /// When the system has not so much that can be locked.
    pub fn new(gpu: &Gpu, bytes: usize) -> Result<Self> {
        Ok(Self { pieces: [(gpu.allocate_host(bytes)?, None), (gpu.allocate_host(bytes)?, None)], turn: 0 })
    }

    /// The piece whose turn it is, to be filled. Waits for the copy that last left from it.
    ///
    /// # Errors
    /// When the device fails.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8]> {
        let (memory, left) = &mut self.pieces[self.turn];
        if let Some(left) = left.take() {
            left.wait()?;
        }
        Ok(memory.bytes_mut())
    }

    /// Ask for copies of parts of that piece, each to an offset in a buffer; then it is the other one's turn.
    ///
    /// # Errors
    /// When they do not fit, or the device fails.
    pub fn leave(&mut self, gpu: &Gpu, copies: &[(&DeviceBuffer, usize, Range<usize>)]) -> Result<()> {
        let (memory, left) = &mut self.pieces[self.turn];
        for (to, offset, part) in copies {
            gpu.write_from_host(to, *offset, memory, part.clone())?;
        }
        *left = Some(gpu.record()?);
        self.turn = 1 - self.turn;
        Ok(())
    }

    /// Let `fill` write what is to be copied, and ask for the copy of its first `bytes` to `to`. Waits for the copy before the
    /// last one.
    ///
    /// # Errors
    /// When they do not fit, or the device fails.
    pub fn send(&mut self, to: &DeviceBuffer, bytes: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(self.bytes_mut()?);
        self.leave(to.gpu(), &[(to, 0, 0..bytes)])
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

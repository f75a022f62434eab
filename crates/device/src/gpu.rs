//! One GPU: what it is asked to do, in the order of asking.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::DType;

use crate::driver::Driver;
use crate::emulated::{Emulated, EmulatedKernels, EmulationOptions};
use crate::memory::Region;
use crate::workspace::Workspace;
use crate::{
    DeviceBuffer, DeviceError, Event, GpuTensor, Graph, Grid, HostBuffer, Memory, Params, Properties, Result,
};

/// Addresses of a rehearsal begin here; nobody follows them.
const REHEARSED: u64 = 1 << 52;

/// The kernels of a program.
#[derive(Debug, Clone, Copy, Default)]
pub struct Code {
    /// What nvcc made of them, for real devices: a name for messages, and the bytes of a fatbin.
    pub fatbins: &'static [(&'static str, &'static [u8])],
}

/// A GPU, or an emulation of one. Clones are the same device.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    driver: Box<dyn Driver>,
    kernels: Mutex<HashMap<&'static str, u64>>,
    room: Mutex<Room>,
}

/// Where intermediate results go.
enum Room {
    /// Each has memory of its own.
    Separate,
    /// All in one piece of memory.
    Slab { address: u64, regions: Workspace },
    /// Nowhere: what a step needs is counted.
    Rehearsal { regions: Workspace, before: Box<Room> },
}

// === impl Gpu ===

impl Gpu {
    /// Device `index` of this machine.
    ///
    /// # Errors
    /// When there is no driver, no such device, or this program was built without CUDA.
    pub fn open(index: usize, code: Code) -> Result<Self> {
        #[cfg(feature = "cuda")]
        {
            Ok(Self::new(Box::new(crate::cuda::Cuda::open(index, code)?)))
        }
        #[cfg(not(feature = "cuda"))]
        {
            let (_, _) = (index, code);
            Err(DeviceError::NotBuilt)
        }
    }

    /// How many devices this machine has.
    ///
    /// # Errors
    /// When there is no driver, or this program was built without CUDA.
    pub fn count() -> Result<usize> {
        #[cfg(feature = "cuda")]
        {
            crate::cuda::count()
        }
        #[cfg(not(feature = "cuda"))]
        {
            Err(DeviceError::NotBuilt)
        }
    }

    /// A device whose kernels run on the host, slowly and with every access checked. For tests.
    #[must_use]
    pub fn emulated(kernels: EmulatedKernels, options: EmulationOptions) -> Self {
        Self::new(Box::new(Emulated::new(kernels, options)))
    }

    fn new(driver: Box<dyn Driver>) -> Self {
        let inner = Inner { driver, kernels: Mutex::default(), room: Mutex::new(Room::Separate) };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn driver(&self) -> &dyn Driver {
        &*self.inner.driver
    }

    /// What it is.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        self.driver().properties()
    }

    /// How much memory it has, and how much is free.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn memory(&self) -> Result<Memory> {
        self.driver().memory()
    }

    /// Whether both are the same device.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Make memory of `other`, a device of this process, usable by kernels of this one. False where devices do not reach each
    /// other.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn reach(&self, other: &Self) -> Result<bool> {
        self.driver().reach(other.driver().neighbour())
    }

    /// From here on other devices wait for this one. An emulated device no longer waits until somebody looks; a real one loads all
    /// kernels at once, since loading one may wait for others that run.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn run_ahead(&self) -> Result<()> {
        self.driver().run_ahead()
    }

    /// Memory that stays: weights, caches, inputs of a step. Its contents are undefined.
    ///
    /// # Errors
    /// When the device has not so much.
    pub fn allocate(&self, bytes: usize) -> Result<DeviceBuffer> {
        DeviceBuffer::new(self, bytes)
    }

    /// Memory of the host that copies can use while the program goes on.
    ///
    /// # Errors
    /// When the system has not so much that can be locked.
    pub fn allocate_host(&self, bytes: usize) -> Result<HostBuffer> {
        HostBuffer::new(self, bytes)
    }

    /// Room for an intermediate result, given back when its last handle is dropped. Its contents are undefined.
    ///
    /// # Errors
    /// When there is no room.
    pub fn empty(&self, dims: &[usize], dtype: DType) -> Result<GpuTensor> {
        let numbers = dims.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
        let bytes = numbers.and_then(|n| n.checked_mul(dtype.size_in_bytes()));
        let bytes =
            bytes.ok_or_else(|| DeviceError::Tensor(format!("{dims:?} is more than can be counted")))?;
        Ok(GpuTensor::new(self.take(bytes)?, dims, dtype))
    }

    fn take(&self, bytes: usize) -> Result<Region> {
        match &mut *self.room() {
            Room::Separate => Region::allocate(self, bytes),
            Room::Slab { address, regions } => {
                let size = regions.size();
                let offset = regions.take(bytes).ok_or(DeviceError::WorkspaceFull { bytes, size })?;
                Ok(Region::in_room(self, *address + offset as u64, bytes))
            }
            Room::Rehearsal { regions, .. } => {
                let size = regions.size();
                let offset = regions.take(bytes).ok_or(DeviceError::WorkspaceFull { bytes, size })?;
                Ok(Region::in_room(self, REHEARSED + offset as u64, bytes))
            }
        }
    }

    pub(crate) fn give_back(&self, address: u64, bytes: usize) {
        self.room().give_back(address, bytes);
    }

    /// Set `bytes` aside for intermediate results; from here on they come from there and nowhere else. Emulated devices give
    /// each of them memory of its own all the same, unless they are told not to.
    ///
    /// # Errors
    /// When the device has not so much.
    pub fn set_aside(&self, bytes: usize) -> Result<()> {
        if self.driver().wants_separate_tensors() {
            return Ok(());
        }
        let address = self.driver().allocate(bytes.max(1))?;
        self.change_room(|before| {
            if let Room::Slab { address, .. } = before {
                self.driver().free(address);
            }
            Room::Slab { address, regions: Workspace::new(bytes) }
        });
        Ok(())
    }

    /// The most memory that intermediate results of `work` take at once. The work is not done: kernels are not started and
    /// nothing is copied, so it must not look at results.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn rehearse<E: From<DeviceError>>(
        &self,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<usize, E> {
        self.change_room(|before| Room::Rehearsal {
            regions: Workspace::new(usize::MAX >> 12),
            before: Box::new(before),
        });
        let outcome = work();
        let mut highest = 0;
        self.change_room(|room| match room {
            Room::Rehearsal { regions, before } => {
                highest = regions.highest();
                *before
            }
            other => other,
        });
        outcome.map(|()| highest)
    }

    fn change_room(&self, change: impl FnOnce(Room) -> Room) {
        let mut room = self.room();
        let before = std::mem::replace(&mut *room, Room::Separate);
        *room = change(before);
    }

    pub(crate) fn is_rehearsing(&self) -> bool {
        matches!(&*self.room(), Room::Rehearsal { .. })
    }

    /// Start a kernel.
    ///
    /// # Errors
    /// When there is no such kernel, blocks are not whole clusters, or the driver refuses.
    ///
    /// # Safety
    /// `params` is what the kernel takes, and all that it will read and write for this grid is valid device memory until it
    /// has run, the memory it writes being used by nobody else.
    pub unsafe fn launch<P: Params>(&self, kernel: &'static str, grid: Grid, params: &P) -> Result<()> {
        grid.check().map_err(|problem| DeviceError::Kernel { kernel: kernel.to_owned(), problem })?;
        if grid.is_empty() || self.is_rehearsing() {
            return Ok(());
        }
        let known = lock(&self.inner.kernels).get(kernel).copied();
        let handle = match known {
            Some(handle) => handle,
            None => {
                let handle = self.driver().kernel(kernel)?;
                lock(&self.inner.kernels).insert(kernel, handle);
                handle
            }
        };
        // SAFETY: a `Params` has no padding, so all of its bytes are initialised.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(params).cast(), size_of::<P>()) };
        // SAFETY: the caller's promise.
        unsafe { self.driver().launch(handle, &grid, bytes) }
    }

    /// Copy `bytes` to the beginning of `to`.
    ///
    /// # Errors
    /// When they do not fit, or the driver fails.
    pub fn write(&self, to: &DeviceBuffer, offset: usize, bytes: &[u8]) -> Result<()> {
        to.check(offset, bytes.len())?;
        if self.is_rehearsing() {
            return Ok(());
        }
        // SAFETY: the range was checked.
        unsafe { self.driver().write(to.address() + offset as u64, bytes) }
    }

    /// Copy to memory of a tensor that is at least as long.
    pub(crate) fn write_at(&self, to: u64, bytes: &[u8]) -> Result<()> {
        if self.is_rehearsing() {
            return Ok(());
        }
        // SAFETY: the caller has compared the lengths.
        unsafe { self.driver().write(to, bytes) }
    }

    /// Copy a part of `from` to `offset` in `to`. It must stay as it is until an event that is recorded later.
    ///
    /// # Errors
    /// When it does not fit, or the driver fails.
    pub fn write_from_host(
        &self,
        to: &DeviceBuffer,
        offset: usize,
        from: &HostBuffer,
        part: Range<usize>,
    ) -> Result<()> {
        from.check(&part)?;
        to.check(offset, part.len())?;
        if self.is_rehearsing() {
            return Ok(());
        }
        // SAFETY: both ranges were checked.
        unsafe {
            let from = from.as_ptr().add(part.start);
            self.driver().write_from_host(to.address() + offset as u64, from, part.len())
        }
    }

    /// The bytes of `from`. Waits for all that was asked before.
    ///
    /// # Errors
    /// When anything that was asked before has failed.
    pub fn read(&self, from: &DeviceBuffer, into: &mut [u8]) -> Result<()> {
        from.check(0, into.len())?;
        // SAFETY: the range was checked.
        unsafe { self.driver().read(from.address(), into) }
    }

    /// Set all bytes of a buffer.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn fill(&self, to: &DeviceBuffer, byte: u8) -> Result<()> {
        if self.is_rehearsing() {
            return Ok(());
        }
        // SAFETY: a buffer is as long as it says.
        unsafe { self.driver().fill(to.address(), byte, to.num_bytes()) }
    }

    /// Copy a tensor into another one of the same size.
    ///
    /// # Errors
    /// When the sizes differ, or the driver fails.
    pub fn copy(&self, from: &GpuTensor, to: &GpuTensor) -> Result<()> {
        if from.num_bytes() != to.num_bytes() {
            let problem = format!("a copy of {} bytes into {}", from.num_bytes(), to.num_bytes());
            return Err(DeviceError::Tensor(problem));
        }
        if self.is_rehearsing() {
            return Ok(());
        }
        // SAFETY: both tensors are as long as they say.
        unsafe { self.driver().copy(to.address(), from.address(), from.num_bytes()) }
    }

    /// A point behind all that was asked so far.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn record(&self) -> Result<Event> {
        Event::record(self)
    }

    /// Wait until all that was asked so far has happened.
    ///
    /// # Errors
    /// When anything of it has failed.
    pub fn wait(&self) -> Result<()> {
        self.driver().wait()
    }

    /// What `work` asks for, as a graph that can be launched again and again. Nothing of it happens before.
    ///
    /// # Errors
    /// Those of `work`, and when it asks for what a graph can not hold, such as reading a result.
    pub fn capture<E: From<DeviceError>>(
        &self,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Graph, E> {
        Graph::capture(self, work)
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        lock(&self.inner.room)
    }
}

// === impl Room ===

impl Room {
    fn give_back(&mut self, address: u64, bytes: usize) {
        match self {
            Self::Separate => {}
            Self::Slab { address: first, regions } => {
                if let Some(offset) = address.checked_sub(*first) {
                    regions.give_back(offset as usize, bytes);
                }
            }
            Self::Rehearsal { regions, before } => match address.checked_sub(REHEARSED) {
                Some(offset) => regions.give_back(offset as usize, bytes),
                None => before.give_back(address, bytes),
            },
        }
    }
}

// === impl Inner ===

impl Drop for Inner {
    fn drop(&mut self) {
        let room = self.room.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Room::Slab { address, .. } = room {
            self.driver.free(*address);
        }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.properties().name).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What [`Gpu`](crate::Gpu) needs of a driver: a real one, or an emulation.

use crate::product::Product;
use crate::{Grid, Result};

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// As its maker calls it.
    pub name: String,
    /// Compute capability, such as 9 and 0.
    pub capability: (u32, u32),
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The most dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
}

/// Memory of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What nobody has.
    pub free: u64,
    /// All.
    pub total: u64,
}

/// A device as another one needs to know it.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "only a driver reads them"))]
pub(crate) struct Neighbour {
    pub(crate) device: i32,
    pub(crate) context: u64,
}

/// A run of device memory that is for, or comes from, another rank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parcel {
    pub(crate) rank: usize,
    pub(crate) address: u64,
    pub(crate) bytes: usize,
}

/// Links from one rank of a group to all others, wherever they are.
pub(crate) trait Links: Send + Sync {
    /// Send and receive, in the order of the stream; all ranks make this call, and what one sends another receives.
    unsafe fn exchange(&self, sent: &[Parcel], received: &[Parcel]) -> Result<()>;
    /// What has gone wrong since the last call.
    fn check(&self) -> Result<()>;
    /// Let nobody wait for the others any more.
    fn abort(&self);
}

/// One device and one stream.
///
/// Calls take effect in their order, but later; only those that are said to wait do. Addresses are those of device memory,
/// and callers promise that they are valid for what is asked, until it has happened.
pub(crate) trait Driver: Send + Sync {
    fn properties(&self) -> &Properties;
    fn memory(&self) -> Result<Memory>;
    fn allocate(&self, bytes: usize) -> Result<u64>;
    /// Give memory back when all that was asked before has happened.
    fn free(&self, address: u64);
    fn allocate_host(&self, bytes: usize) -> Result<*mut u8>;
    fn free_host(&self, memory: *mut u8, bytes: usize);

    /// What [`launch`](Self::launch) names a kernel by.
    fn kernel(&self, name: &str) -> Result<u64>;
    /// `params` are the bytes of its one parameter, which are copied.
    unsafe fn launch(&self, kernel: u64, grid: &Grid, params: &[u8]) -> Result<()>;
    /// Copy from any memory of the host, which may be changed after the call.
    unsafe fn write(&self, to: u64, bytes: &[u8]) -> Result<()>;
    /// Copy from memory of [`allocate_host`](Self::allocate_host), which must stay as it is until the copy has happened.
    unsafe fn write_from_host(&self, to: u64, from: *const u8, bytes: usize) -> Result<()>;
    /// Copy to the host, and wait for it.
    unsafe fn read(&self, from: u64, into: &mut [u8]) -> Result<()>;
    unsafe fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()>;
    unsafe fn fill(&self, to: u64, byte: u8, bytes: usize) -> Result<()>;

    /// A point behind everything that was asked so far.
    fn record(&self) -> Result<u64>;
    /// Wait until that point is reached.
    fn wait_for(&self, event: u64) -> Result<()>;
    fn free_event(&self, event: u64);
    /// Wait for everything.
    fn wait(&self) -> Result<()>;

    /// From here on, calls are taken down and do not happen.
    fn begin_capture(&self) -> Result<()>;
    /// What was taken down, as a graph.
    fn end_capture(&self) -> Result<u64>;
    fn launch_graph(&self, graph: u64) -> Result<()>;
    fn free_graph(&self, graph: u64);

    /// For other devices of this process.
    fn neighbour(&self) -> Neighbour;
    /// Make the memory of that device usable by kernels of this one; whether that is possible.
    fn reach(&self, other: Neighbour) -> Result<bool>;
    /// From here on other devices wait for this one: what is asked for happens without anybody waiting for it, and nothing that is
    /// asked for may wait for the device on the way.
    fn run_ahead(&self) -> Result<()>;
    /// What ranks must know to get links to each other.
    fn links_id(&self) -> Result<Vec<u8>>;
    /// Links of this rank; returns when all ranks of the group ask for theirs, or `is_off` says that they will not.
    fn links(
        &self,
        id: &[u8],
        rank: usize,
        ranks: usize,
        is_off: &dyn Fn() -> bool,
    ) -> Result<Box<dyn Links>>;

    /// A matrix product by the vendor's library.
    unsafe fn product(&self, product: &Product) -> Result<()>;

    /// Whether each tensor should have memory of its own, so that accesses beyond it are found.
    fn wants_separate_tensors(&self) -> bool {
        false
    }
}

//! Devices of one process that reach each other's memory: `cuda/peers.cu`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlinders_device::{DeviceBuffer, Gpu, GpuTensor, Grid, HostFlag, Params};

use super::{adds_by_slices, packs};
use crate::error::{KernelError, Result};
use crate::gpu::for_dtype;

const THREADS: u32 = 256;
// As in cuda/peers.cuh.
const MOST_PEERS: usize = 8;
const MOST_CHANNELS: usize = 64;
const SLOT_BYTES: usize = 16 << 10;
const SLOTS_AT: usize = 4096;

const AT_ONCE: [&str; 3] = ["all_reduce_at_once_bf16", "all_reduce_at_once_f16", "all_reduce_at_once_f32"];
const BY_SLICES: [&str; 3] =
    ["all_reduce_by_slices_bf16", "all_reduce_by_slices_f16", "all_reduce_by_slices_f32"];

#[derive(Clone, Copy)]
#[repr(C)]
struct PeersParams {
    boxes: [u64; MOST_PEERS],
    broken: u64,
    rank: i32,
    ranks: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct AllReduceParams {
    peers: PeersParams,
    x: u64,
    y: u64,
    packs: i32,
    per_round: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct GatherParams {
    peers: PeersParams,
    x: u64,
    y: u64,
    columns: [i32; MOST_PEERS],
    rows: i32,
    root: i32,
}

// SAFETY: the structs of cuda/peers.cu, without padding.
unsafe impl Params for AllReduceParams {}
// SAFETY: as above.
unsafe impl Params for GatherParams {}

/// Where the ranks of a process leave their boxes for each other.
#[derive(Debug)]
pub struct Peers {
    boxes: Mutex<Vec<Option<PeerBox>>>,
}

/// What one rank lets the others write to.
#[derive(Clone)]
struct PeerBox {
    memory: DeviceBuffer,
    broken: Arc<HostFlag>,
}

/// One rank of devices that reach each other's memory. All ranks make the same calls in the same order.
#[derive(Debug)]
pub struct PeerGroup {
    gpu: Gpu,
    rank: usize,
    /// Of all ranks: they stay as long as anybody may write to them.
    boxes: Vec<PeerBox>,
}

// === impl Peers ===

impl Peers {
    /// A place for the boxes of so many ranks; `None` where there are more than kernels can serve.
    #[must_use]
    pub fn new(ranks: usize) -> Option<Arc<Self>> {
        (ranks <= MOST_PEERS).then(|| Arc::new(Self { boxes: Mutex::new(vec![None; ranks]) }))
    }

    fn boxes(&self) -> MutexGuard<'_, Vec<Option<PeerBox>>> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave the box of a rank.
    ///
    /// # Errors
    /// When there is no memory for it, or no such rank.
    pub fn bring(&self, gpu: &Gpu, rank: usize) -> Result<()> {
        let ranks = self.boxes().len();
        let memory = gpu.allocate(SLOTS_AT + MOST_CHANNELS * 2 * ranks * SLOT_BYTES)?;
        gpu.fill(&memory, 0)?;
        gpu.wait()?;
        let own = PeerBox { memory, broken: Arc::new(HostFlag::new(gpu)?) };
        match self.boxes().get_mut(rank) {
            Some(place) => *place = Some(own),
            None => return Err(KernelError::shape("peers", format!("there is no rank {rank} of {ranks}"))),
        }
        Ok(())
    }

    /// The group, as this rank sees it, once all have left their boxes; `None` where its device does not reach all others.
    ///
    /// # Errors
    /// When a box is missing, or the driver fails.
    pub fn join(&self, gpu: &Gpu, rank: usize) -> Result<Option<PeerGroup>> {
        let boxes: Option<Vec<_>> = self.boxes().iter().cloned().collect();
        let boxes = boxes.ok_or_else(|| KernelError::shape("peers", "a rank has left no box".to_owned()))?;
        for other in &boxes {
            if !gpu.reach(other.memory.gpu())? {
                return Ok(None);
            }
        }
        gpu.run_ahead()?;
        Ok(Some(PeerGroup { gpu: gpu.clone(), rank, boxes }))
    }
}

// === impl PeerGroup ===

impl PeerGroup {
    pub(super) fn rank(&self) -> usize {
        self.rank
    }

    pub(super) fn size(&self) -> usize {
        self.boxes.len()
    }

    pub(super) fn abort(&self) {
        for each in &self.boxes {
            each.broken.raise();
        }
    }

    fn params(&self) -> PeersParams {
        let mut boxes = [0; MOST_PEERS];
        for (place, each) in boxes.iter_mut().zip(&self.boxes) {
            *place = each.memory.address();
        }
        let broken = self.boxes[self.rank].broken.address();
        PeersParams { boxes, broken, rank: self.rank as i32, ranks: self.boxes.len() as i32 }
    }

    pub(super) fn all_reduce(&self, x: &GpuTensor) -> Result<GpuTensor> {
        const OP: &str = "all_reduce";
        let packs = packs(OP, x)?;
        if packs > i32::MAX as usize / 2 {
            return Err(KernelError::shape(OP, format!("{x:?} has too many bytes")));
        }
        let ranks = self.boxes.len();
        let by_slices = adds_by_slices(x.num_bytes(), ranks);
        let kernel = for_dtype(OP, x.dtype(), if by_slices { BY_SLICES } else { AT_ONCE })?;
        // A small sum is spread over more blocks than slots would ask for: each moves little, and all do so at once.
        let threads = THREADS as usize;
        let per_round = if packs <= threads * MOST_CHANNELS { threads } else { SLOT_BYTES / 16 };
        let blocks = packs.div_ceil(per_round * if by_slices { ranks } else { 1 });
        let y = self.gpu.empty(x.dims(), x.dtype())?;
        let params = AllReduceParams {
            peers: self.params(),
            x: x.address(),
            y: y.address(),
            packs: packs as i32,
            per_round: per_round as i32,
        };
        let grid = Grid::of(blocks.min(MOST_CHANNELS), THREADS);
        // SAFETY: both tensors are that long, boxes are as large as the kernel takes them to be, and all ranks start it.
        unsafe { self.gpu.launch(kernel, grid, &params)? };
        Ok(y)
    }

    pub(super) fn gather(&self, x: &GpuTensor, columns: &[usize]) -> Result<Option<GpuTensor>> {
        const ROOT: usize = 0;
        let rows = x.dims().first().copied().unwrap_or(0);
        let all: usize = columns.iter().sum();
        if rows * all > i32::MAX as usize {
            return Err(KernelError::shape("gather", format!("{rows} rows of {all} are too many")));
        }
        let y = if self.rank == ROOT { Some(self.gpu.empty(&[rows, all], x.dtype())?) } else { None };
        let mut widths = [0; MOST_PEERS];
        for (place, columns) in widths.iter_mut().zip(columns) {
            *place = *columns as i32;
        }
        let params = GatherParams {
            peers: self.params(),
            x: x.address(),
            y: y.as_ref().map_or(0, GpuTensor::address),
            columns: widths,
            rows: rows as i32,
            root: ROOT as i32,
        };
        let most = rows * columns.iter().max().copied().unwrap_or(0);
        let grid = Grid::of(most.div_ceil(SLOT_BYTES / 4).min(MOST_CHANNELS), THREADS);
        // SAFETY: as above; the columns of this rank were compared with its tensor.
        unsafe { self.gpu.launch("gather_columns", grid, &params)? };
        Ok(y)
    }
}

impl std::fmt::Debug for PeerBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerBox({:?})", self.memory)
    }
}

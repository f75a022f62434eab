//! Devices that send each other what they have: `cuda/rank_sums.cu`.

use vlinders_device::{GpuLinks, GpuTensor, Grid, Params, Sent};

use super::{adds_by_slices, packs};
use crate::error::Result;
use crate::gpu::for_dtype;

const THREADS: usize = 256;
const ADD: [&str; 3] = ["add_ranks_bf16", "add_ranks_f16", "add_ranks_f32"];

#[derive(Clone, Copy)]
#[repr(C)]
struct AddRanksParams {
    own: u64,
    parts: u64,
    y: u64,
    packs: i64,
    stride: i64,
    rank: i32,
    ranks: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct PlaceColumnsParams {
    x: u64,
    y: u64,
    columns: i32,
    first: i32,
    all: i32,
    rows: i32,
}

// SAFETY: the structs of cuda/rank_sums.cu, without padding.
unsafe impl Params for AddRanksParams {}
// SAFETY: as above.
unsafe impl Params for PlaceColumnsParams {}

/// A run of packs of a tensor of so many, in bytes.
fn run(first: usize, count: usize, all: usize) -> std::ops::Range<usize> {
    let (start, end) = (first.min(all), (first + count).min(all));
    start * 16..end * 16
}

pub(super) fn all_reduce(links: &GpuLinks, x: &GpuTensor) -> Result<GpuTensor> {
    const OP: &str = "all_reduce";
    let (packs, rank, ranks) = (packs(OP, x)?, links.rank(), links.size());
    let kernel = for_dtype(OP, x.dtype(), ADD)?;
    let y = x.gpu().empty(x.dims(), x.dtype())?;
    let by_slices = adds_by_slices(x.num_bytes(), ranks);
    // The packs that a rank adds up: its slice, or all of them.
    let slice = if by_slices { packs.div_ceil(ranks) } else { packs };
    let added_by =
        |rank: usize| if by_slices { run(rank * slice, slice, packs) } else { run(0, packs, packs) };
    let parts = x.gpu().empty(&[ranks, slice * 16], candle_core::DType::U8)?;
    let others = || (0..ranks).filter(|other| *other != rank);
    let own = added_by(rank);
    let sent: Vec<_> = others().map(|to| Sent { rank: to, tensor: x, bytes: added_by(to) }).collect();
    let place = |from: usize| from * slice * 16..from * slice * 16 + own.len();
    let received: Vec<_> =
        others().map(|from| Sent { rank: from, tensor: &parts, bytes: place(from) }).collect();
    links.exchange(&sent, &received)?;
    let params = AddRanksParams {
        own: x.address() + own.start as u64,
        parts: parts.address(),
        y: y.address() + own.start as u64,
        packs: (own.len() / 16) as i64,
        stride: slice as i64,
        rank: rank as i32,
        ranks: ranks as i32,
    };
    // SAFETY: the parts of all ranks are as long as the slice of this one.
    unsafe { x.gpu().launch(kernel, Grid::of((own.len() / 16).div_ceil(THREADS), THREADS as u32), &params)? };
    if by_slices {
        let sent: Vec<_> = others().map(|to| Sent { rank: to, tensor: &y, bytes: own.clone() }).collect();
        let received: Vec<_> =
            others().map(|from| Sent { rank: from, tensor: &y, bytes: added_by(from) }).collect();
        links.exchange(&sent, &received)?;
    }
    Ok(y)
}

pub(super) fn gather(links: &GpuLinks, x: &GpuTensor, columns: &[usize]) -> Result<Option<GpuTensor>> {
    const ROOT: usize = 0;
    let (gpu, rank) = (x.gpu(), links.rank());
    if rank != ROOT {
        links.exchange(&[Sent { rank: ROOT, tensor: x, bytes: 0..x.num_bytes() }], &[])?;
        return Ok(None);
    }
    let rows = x.dims().first().copied().unwrap_or(0);
    let all: usize = columns.iter().sum();
    let y = gpu.empty(&[rows, all], x.dtype())?;
    let parts = columns.iter().map(|own| gpu.empty(&[rows, *own], x.dtype()));
    let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?;
    let others = parts.iter().enumerate().filter(|(from, _)| *from != rank);
    let received: Vec<_> =
        others.map(|(from, part)| Sent { rank: from, tensor: part, bytes: 0..part.num_bytes() }).collect();
    links.exchange(&[], &received)?;
    let mut first = 0;
    for (from, (part, own)) in parts.iter().zip(columns).enumerate() {
        let part = if from == rank { x } else { part };
        let params = PlaceColumnsParams {
            x: part.address(),
            y: y.address(),
            columns: *own as i32,
            first: first as i32,
            all: all as i32,
            rows: rows as i32,
        };
        let grid = Grid::of_two(rows, own.div_ceil(THREADS), THREADS as u32);
        // SAFETY: the columns of all parts together are those of the result.
        unsafe { gpu.launch("place_columns", grid, &params)? };
        first += own;
    }
    Ok(Some(y))
}

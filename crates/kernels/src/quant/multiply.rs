//! The loops around the innermost one: rows are quantised once, then tiles are shared among the threads.

use std::cell::RefCell;
use std::ops::Range;

use super::activations::{ROW_BYTES, quantise_row};
use super::dots::DotIsa;
use super::micro::{Codes, Fetch, LINE, Results, multiply_panel};
use super::tile::{QuantTile, with_tile};
use crate::element::LANES;
use crate::error::{KernelError, Result};
use crate::micro::{MAX_ROWS, first_row, with_num_rows};
use crate::pool::{num_threads, parallel_for};
use crate::simd::Isa;
use crate::tensor::Shared;
use crate::weight::PackedWeight;

/// Multiply-adds below which other threads are not asked.
const WORTHWHILE: usize = 1 << 17;
/// Numbers below which quantising stays on the caller.
const WORTHWHILE_ROUNDING: usize = 1 << 14;
/// Panels that meet a tile before the next one: 96 rows of 2,048 numbers are 240 KiB.
const PANELS_PER_BLOCK: usize = 16;
/// Tiles that are handed out at once, at most.
const TILES_PER_CHUNK: usize = 16;
/// Tiles at once for several panels, where there are 32 registers. One panel is bound by memory, which one stream reads best.
const WIDE_TILES: usize = 2;

thread_local! {
    /// Quantised rows; kept, since every layer of every step needs as much again. Four bytes for the alignment.
    static SCRATCH: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// One product, as the threads see it.
struct Job<'a> {
    isa: DotIsa,
    n: usize,
    num_panels: usize,
    /// Panels one behind the other.
    rows: Shared<u8>,
    row_bytes: usize,
    tiles: *const u8,
    tile_bytes: usize,
    units: usize,
    bias: Option<&'a [f32]>,
    out: Shared<f32>,
    features: usize,
}

// SAFETY: `tiles` points into a weight that is borrowed and only read.
unsafe impl Sync for Job<'_> {}

/// Write `x w^T + bias` for `n` rows to `out`.
///
/// # Safety
/// `w` is quantised; `x` holds `n` rows of `in` numbers, `bias` (if any) `out` numbers, and `out` is writable for
/// `n * out`; `isa` is there.
pub(crate) unsafe fn multiply(
    isa: Isa,
    x: &[f32],
    n: usize,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    out: *mut f32,
) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    let (inn, features) = (w.in_features(), w.out_features());
    with_tile!(w.format(), Q => {
        let units = Q::units(inn);
        let row_bytes = units * Q::UNIT_BLOCKS * ROW_BYTES;
        let num_panels = n.div_ceil(MAX_ROWS);
        SCRATCH.with_borrow_mut(|scratch| {
            let words = n * row_bytes / 4;
            scratch.clear();
            scratch.try_reserve(words).map_err(|_| KernelError::Memory { bytes: 4 * words })?;
            let rows = Shared::new(scratch.as_mut_ptr().cast::<u8>());
            let round = |panel: usize| {
                let (first, end) = (first_row(n, num_panels, panel), first_row(n, num_panels, panel + 1));
                for r in 0..end - first {
                    // SAFETY: the row is one of `x`; its panel lies in the scratch memory and is this chunk's alone.
                    unsafe {
                        let row = x.as_ptr().add((first + r) * inn);
                        let panel = rows.get().add(first * row_bytes);
                        quantise_row(isa, row, inn, units * Q::UNIT_BLOCKS, panel, end - first, r);
                    }
                }
            };
            if x.len() < WORTHWHILE_ROUNDING {
                (0..num_panels).for_each(round);
            } else {
                parallel_for(num_panels, &round)?;
            }
            let tile_bytes = units * Q::UNIT_BYTES;
            let job = Job {
                isa: DotIsa::of(isa),
                n,
                num_panels,
                rows,
                row_bytes,
                tiles: w.bytes().as_ptr(),
                tile_bytes,
                units,
                bias,
                out: Shared::new(out),
                features,
            };
            let num_tiles = w.num_tiles();
            let blocks = num_panels.div_ceil(PANELS_PER_BLOCK);
            let per_chunk = job.tiles_per_chunk(num_tiles);
            let chunks = num_tiles.div_ceil(per_chunk);
            parallel_for(chunks * blocks, &|chunk| {
                let first = chunk % chunks * per_chunk;
                let block = chunk / chunks;
                let panels = block * num_panels / blocks..(block + 1) * num_panels / blocks;
                // SAFETY: panels and tiles exist, and this chunk alone writes their results.
                unsafe { job.run_chunk::<Q>(panels, first..num_tiles.min(first + per_chunk)) }
            })
        })
    }, _ => Err(KernelError::shape("linear", "the weight is not quantised")))
}

// === impl Job ===

impl Job<'_> {
    fn tiles_per_chunk(&self, num_tiles: usize) -> usize {
        if self.n * self.tile_bytes * num_tiles < WORTHWHILE {
            return num_tiles;
        }
        (num_tiles / (4 * num_threads())).clamp(WIDE_TILES, TILES_PER_CHUNK) / WIDE_TILES * WIDE_TILES
    }

    /// # Safety
    /// Panels and tiles exist, and no one else writes their results.
    unsafe fn run_chunk<Q: Codes>(&self, panels: Range<usize>, tiles: Range<usize>) {
        let full = tiles.end.min(self.features / LANES);
        let mut tile = tiles.start;
        // SAFETY: the caller's promise; several tiles at once are whole ones.
        unsafe {
            if self.num_panels > 1 && self.isa.has_many_registers() {
                while tile + WIDE_TILES <= full {
                    self.meet_panels::<Q, WIDE_TILES>(&panels, tile);
                    tile += WIDE_TILES;
                }
            }
            while tile < tiles.end {
                self.meet_panels::<Q, 1>(&panels, tile);
                tile += 1;
            }
        }
    }

    /// Tiles `tile..tile + T` against each of the panels.
    ///
    /// # Safety
    /// As [`run_chunk`](Self::run_chunk); where `T > 1` all tiles have sixteen features.
    unsafe fn meet_panels<Q: Codes, const T: usize>(&self, panels: &Range<usize>, tile: usize) {
        for panel in panels.clone() {
            let first = first_row(self.n, self.num_panels, panel);
            let rows = first_row(self.n, self.num_panels, panel + 1) - first;
            let fetch = self.fetch::<Q, T>(panel - panels.start, panels.len(), tile);
            // SAFETY: the caller's promise.
            unsafe { with_num_rows!(rows, R => self.block::<Q, R, T>(first, tile, fetch)) }
        }
    }

    /// The share of panel number `index` of `count` in fetching the tiles behind `tile..tile + T`. A single tile is a stream,
    /// which fetches for itself.
    fn fetch<Q: Codes, const T: usize>(&self, index: usize, count: usize, tile: usize) -> Fetch<T> {
        let lines = if T == 1 { 0 } else { Q::UNIT_BYTES.div_ceil(LINE).div_ceil(count) };
        let next = |t: usize| {
            let tile = self.tiles.wrapping_add((tile + T + t) * self.tile_bytes);
            tile.wrapping_add(index * self.units * lines * LINE)
        };
        Fetch { next: std::array::from_fn(next), lines }
    }

    /// # Safety
    /// As [`meet_panels`](Self::meet_panels); the panel that begins with row `first` has `R` rows.
    unsafe fn block<Q: Codes, const R: usize, const T: usize>(
        &self,
        first: usize,
        tile: usize,
        fetch: Fetch<T>,
    ) {
        let column = tile * LANES;
        let lanes = (self.features - column).min(T * LANES);
        let bias = self.bias.map(|bias| &bias[column..column + lanes]);
        // SAFETY: the caller's promise. A tile with fewer features gets results and bias of sixteen on the stack.
        unsafe {
            let x = self.rows.get().add(first * self.row_bytes).cast_const();
            let tiles = std::array::from_fn(|t| self.tiles.add((tile + t) * self.tile_bytes));
            let out = self.out.get().add(first * self.features + column);
            if lanes == T * LANES {
                let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
                let results = Results { start: out, next_row: self.features, bias };
                return multiply_panel::<Q, R, T>(self.isa, x, tiles, self.units, fetch, results);
            }
            let mut padded_bias = [0.0; LANES];
            let mut padded = [[0.0; LANES]; MAX_ROWS];
            if let Some(bias) = bias {
                padded_bias[..lanes].copy_from_slice(bias);
            }
            let bias = bias.map_or(std::ptr::null(), |_| padded_bias.as_ptr());
            let results = Results { start: padded.as_flattened_mut().as_mut_ptr(), next_row: LANES, bias };
            multiply_panel::<Q, R, T>(self.isa, x, tiles, self.units, fetch, results);
            for (r, row) in padded[..R].iter().enumerate() {
                out.add(r * self.features).copy_from_nonoverlapping(row.as_ptr(), lanes);
            }
        }
    }
}

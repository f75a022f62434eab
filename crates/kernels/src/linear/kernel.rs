//! The loops around the innermost one: which piece of the product is computed when, and by whom.
//!
//! Up to six rows are bound by memory: one panel, tiles read front to back, several tiles at once where rows
//! leave registers free. More rows are bound by arithmetic: a piece of a weight tile that fits the first-level
//! cache meets all panels of a block of rows that fits the second-level cache, while the next piece is fetched.

use std::ops::Range;

use candle_core::DType;

use super::operand::{Operand, Pair, Plain, Rounded};
use super::panels::{Panels, with_packed};
use crate::element::{LANES, with_weight_element};
use crate::error::Result;
use crate::micro::{Ahead, MAX_ROWS, Sums, WIDE_TILES, with_num_rows, with_rows};
use crate::pool::{num_threads, parallel_for};
use crate::simd::Isa;
use crate::tensor::Shared;
use crate::weight::PackedWeight;

/// Multiply-adds below which other threads are not asked.
const WORTHWHILE: usize = 1 << 16;
/// How far ahead of use weights are fetched when they stream from memory.
const STREAM_AHEAD: usize = 2048;
/// Tiles that share one block of rows in the second-level cache.
const TILES_PER_CHUNK: usize = 8;

/// One product, as the threads see it.
struct Job<'a, X: Operand> {
    isa: Isa,
    panels: Panels,
    packed: *const X,
    tiles: *const X::Weight,
    /// Operands of a tile, what pads it included.
    tile_len: usize,
    num_tiles: usize,
    bias: Option<&'a [f32]>,
    out: Shared<f32>,
    features: usize,
}

// SAFETY: `tiles` points into a weight and `packed` into rows that are borrowed and only read.
unsafe impl<X: Operand> Sync for Job<'_, X> {}

/// Write `x w^T + bias` for `n` rows to `out`.
///
/// # Safety
/// `dtype` is that of `w`; `x` holds `n` rows of `in` numbers, `bias` (if any) `out` numbers, and `out` is writable for `n * out`; `isa`
/// is there.
pub(super) unsafe fn multiply(
    isa: Isa,
    dtype: DType,
    x: &[f32],
    n: usize,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    out: *mut f32,
) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    // SAFETY: the caller's promise, and operands that fit the weights of this dtype.
    unsafe {
        if dtype == DType::BF16 && w.rounds_activations() {
            return match Pair::is_available(isa) {
                true => multiply_as::<Pair>(isa, x, n, w, bias, out),
                false => multiply_as::<Rounded>(isa, x, n, w, bias, out),
            };
        }
        with_weight_element!(dtype, E => multiply_as::<Plain<E>>(isa, x, n, w, bias, out))
    }
}

/// # Safety
/// As [`multiply`]; the tiles of `w` are made of `X::Weight`, and `X` is available on `isa`.
unsafe fn multiply_as<X: Operand>(
    isa: Isa,
    x: &[f32],
    n: usize,
    w: &PackedWeight,
    bias: Option<&[f32]>,
    out: *mut f32,
) -> Result<()> {
    let panels = Panels::new(n, X::count(w.in_features()));
    with_packed(isa, &panels, x, |packed: *const X| {
        let job = Job {
            isa,
            panels,
            packed,
            tiles: w.bytes().as_ptr().cast(),
            tile_len: X::tile_len(w.in_features()),
            num_tiles: w.num_tiles(),
            bias,
            out: Shared::new(out),
            features: w.out_features(),
        };
        let tiles_per_chunk = job.tiles_per_chunk();
        let tile_chunks = job.num_tiles.div_ceil(tiles_per_chunk);
        let body = |chunk: usize| {
            let first = chunk % tile_chunks * tiles_per_chunk;
            let tiles = first..job.num_tiles.min(first + tiles_per_chunk);
            // SAFETY: tiles and block exist, and this chunk alone writes their outputs.
            unsafe { job.run_chunk(chunk / tile_chunks, tiles) }
        };
        parallel_for(tile_chunks * job.panels.num_blocks(), &body)
    })
}

// === impl Job ===

impl<X: Operand> Job<'_, X> {
    fn tiles_per_chunk(&self) -> usize {
        let work = self.panels.n * self.panels.inn * self.num_tiles * LANES;
        if work < WORTHWHILE {
            return self.num_tiles;
        }
        // Small enough to share evenly, large enough to be worth fetching rows for.
        let share = self.num_tiles / (4 * num_threads());
        if self.panels.count == 1 {
            share.clamp(4, 16) / 4 * 4
        } else if self.isa.has_many_registers() {
            share.clamp(WIDE_TILES, TILES_PER_CHUNK) / WIDE_TILES * WIDE_TILES
        } else {
            share.clamp(1, TILES_PER_CHUNK)
        }
    }

    /// Where the weights of tile `tile` from operand `k` on begin.
    unsafe fn weights(&self, tile: usize, k: usize) -> *const X::Weight {
        // SAFETY: the caller gives a tile that exists and `k <= in`.
        unsafe { self.tiles.add((tile * self.tile_len + k) * LANES) }
    }

    /// Add the product of one panel with `T` tiles over operands `k` to the output; the first piece
    /// starts it, the last one adds the bias.
    ///
    /// # Safety
    /// The panel has `R` rows and lies at `x`, packed; tiles `tile..tile + T` exist, with sixteen features each
    /// where `T > 1`; no one else writes their outputs.
    unsafe fn block<const R: usize, const T: usize>(
        &self,
        x: *const X,
        first_row: usize,
        tile: usize,
        k: Range<usize>,
        ahead: Ahead<T>,
    ) {
        let column = tile * LANES;
        let lanes = (self.features - column).min(T * LANES);
        let bias = self.bias.filter(|_| k.end == self.panels.inn).map(|bias| &bias[column..column + lanes]);
        let resume = k.start > 0;
        // SAFETY: the caller's promise. A tile with fewer features gets sums and bias of sixteen on the stack.
        unsafe {
            let mut tiles = [self.tiles; T];
            for (t, start) in tiles.iter_mut().enumerate() {
                *start = self.weights(tile + t, k.start);
            }
            let out = self.out.get().add(first_row * self.features + column);
            if lanes == T * LANES {
                let bias = bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
                let sums = Sums { start: out, next_row: self.features, resume, bias };
                return X::accumulate::<R, T>(self.isa, x, tiles, k.len(), ahead, sums);
            }
            let mut padded_bias = [0.0; LANES];
            let mut padded = [[0.0; LANES]; MAX_ROWS];
            if let Some(bias) = bias {
                padded_bias[..lanes].copy_from_slice(bias);
            }
            if resume {
                for (r, row) in padded[..R].iter_mut().enumerate() {
                    out.add(r * self.features).copy_to_nonoverlapping(row.as_mut_ptr(), lanes);
                }
            }
            let bias = bias.map_or(std::ptr::null(), |_| padded_bias.as_ptr());
            let sums = Sums { start: padded.as_flattened_mut().as_mut_ptr(), next_row: LANES, resume, bias };
            X::accumulate::<R, T>(self.isa, x, tiles, k.len(), ahead, sums);
            for (r, row) in padded[..R].iter().enumerate() {
                out.add(r * self.features).copy_from_nonoverlapping(row.as_ptr(), lanes);
            }
        }
    }

    /// The only panel against whole tiles, `T` at a time while they last.
    ///
    /// # Safety
    /// As [`block`](Self::block).
    unsafe fn stream<const R: usize, const T: usize>(&self, tiles: Range<usize>) {
        let inn = self.panels.inn;
        let x = self.packed;
        let step = 4 * LANES * size_of::<X::Weight>();
        // SAFETY: the tiles exist; what is fetched ahead is never read through these pointers.
        let ahead = |tile| unsafe { self.weights(tile, 0) }.cast::<u8>().wrapping_add(STREAM_AHEAD);
        let full = tiles.end.min(self.features / LANES);
        let mut tile = tiles.start;
        while tile + T <= full {
            let streams = std::array::from_fn(|t| ahead(tile + t));
            // SAFETY: the caller's promise.
            unsafe { self.block::<R, T>(x, 0, tile, 0..inn, Ahead::pairs(streams, step)) };
            tile += T;
        }
        for tile in tile..tiles.end {
            // SAFETY: the caller's promise.
            unsafe { self.block::<R, 1>(x, 0, tile, 0..inn, Ahead::pairs([ahead(tile)], step)) };
        }
    }

    /// All panels of block `block` against `tiles`, several at once where registers allow it.
    ///
    /// # Safety
    /// As [`block`](Self::block).
    unsafe fn reuse(&self, block: usize, tiles: Range<usize>) {
        let full = tiles.end.min(self.features / LANES);
        for piece in 0..self.panels.num_pieces() {
            let mut tile = tiles.start;
            while tile < tiles.end {
                let several = self.isa.has_many_registers() && tile + WIDE_TILES <= full;
                // SAFETY: the caller's promise; several tiles are whole ones.
                unsafe {
                    if several {
                        self.meet_panels::<WIDE_TILES>(block, piece, tile, &tiles);
                    } else {
                        self.meet_panels::<1>(block, piece, tile, &tiles);
                    }
                }
                tile += if several { WIDE_TILES } else { 1 };
            }
        }
    }

    /// Tiles `tile..tile + T` against the block's panels, over one piece of features. What comes after this piece of
    /// weights is fetched meanwhile: the same piece of the next tiles, or the next piece of the first ones.
    ///
    /// # Safety
    /// As [`block`](Self::block).
    unsafe fn meet_panels<const T: usize>(
        &self,
        block: usize,
        piece: usize,
        tile: usize,
        tiles: &Range<usize>,
    ) {
        let panels = &self.panels;
        let k = panels.piece(piece);
        let (next_tile, next_k) =
            if tile + T < tiles.end { (tile + T, k.start) } else { (tiles.start, k.end) };
        // Behind the last tile nothing is read, only fetched.
        let mut next: [*const u8; T] = std::array::from_fn(|t| {
            self.tiles.wrapping_add(((next_tile + t) * self.tile_len + next_k) * LANES).cast()
        });
        let range = panels.block(block);
        let per_panel = (k.len() * LANES * size_of::<X::Weight>()).div_ceil(range.len());
        let step = (per_panel * 4).div_ceil(k.len());
        for panel in range {
            let rows = panels.rows(panel);
            let ahead = Ahead::pairs(next, step);
            next = next.map(|next| next.wrapping_add(per_panel));
            // SAFETY: panel and tiles exist, and this chunk alone writes their outputs.
            unsafe {
                let x = self.packed.add(panels.offset(panel, piece));
                with_num_rows!(rows.len(), R => self.block::<R, T>(x, rows.start, tile, k.clone(), ahead));
            }
        }
    }

    /// # Safety
    /// As [`block`](Self::block), for all panels of the block and all of `tiles`.
    unsafe fn run_chunk(&self, block: usize, tiles: Range<usize>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.panels.count {
                1 => with_rows!(self.isa, self.panels.n, R, T => self.stream::<R, T>(tiles)),
                _ => self.reuse(block, tiles),
            }
        }
    }
}

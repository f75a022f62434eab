//! The left side of a product: rows in panels of up to six, laid out so that the innermost loop reads them in order.
//!
//! Layout: block, piece of `in`, panel, `k`, row. A block is what stays in the second-level cache, a piece what
//! keeps a tile's weights in the first.

use std::cell::RefCell;
use std::ops::Range;

use crate::error::{KernelError, Result};
use crate::micro::{MAX_ROWS, first_row};
use crate::pool::parallel_for;
use crate::tensor::Shared;

/// Input features of a piece.
const PIECE: usize = 256;
/// Panels of a block: 96 rows of a piece are 96 KiB.
const PANELS_PER_BLOCK: usize = 16;
/// Numbers below which packing stays on the caller.
const WORTHWHILE: usize = 1 << 15;

/// How `n` rows of `inn` numbers are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    pub(super) n: usize,
    pub(super) inn: usize,
    /// Panels in all; their sizes differ by at most one.
    pub(super) count: usize,
}

thread_local! {
    /// Packed rows; kept, since every layer of every step needs as much again.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Call `use_packed` with the rows of `x` in panels.
pub(super) fn with_packed<T>(
    panels: &Panels,
    x: &[f32],
    use_packed: impl FnOnce(*const f32) -> Result<T>,
) -> Result<T> {
    debug_assert_eq!(x.len(), panels.n * panels.inn);
    if panels.n == 1 {
        return use_packed(x.as_ptr());
    }
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.try_reserve(x.len()).map_err(|_| KernelError::Memory { bytes: 4 * x.len() })?;
        let packed = Shared::new(scratch.as_mut_ptr());
        let pack = |panel: usize| {
            for piece in 0..panels.num_pieces() {
                // SAFETY: panels and pieces cut the `n * inn` numbers of both sides without overlap, and this
                // call alone writes this panel.
                unsafe { pack_piece(panels, x.as_ptr(), panel, piece, packed.get()) }
            }
        };
        if x.len() < WORTHWHILE {
            (0..panels.count).for_each(pack);
        } else {
            parallel_for(panels.count, &pack)?;
        }
        use_packed(packed.get())
    })
}

/// # Safety
/// `x` is readable and `packed` writable for `n * inn` numbers; panel and piece exist.
unsafe fn pack_piece(panels: &Panels, x: *const f32, panel: usize, piece: usize, packed: *mut f32) {
    let rows = panels.rows(panel);
    let k = panels.piece(piece);
    let height = rows.len();
    // SAFETY: row and k are within the bounds that the caller promised.
    unsafe {
        let packed = packed.add(panels.offset(panel, piece));
        for (r, row) in rows.enumerate() {
            let from = x.add(row * panels.inn + k.start);
            for i in 0..k.len() {
                packed.add(i * height + r).write(from.add(i).read());
            }
        }
    }
}

// === impl Panels ===

impl Panels {
    pub(super) fn new(n: usize, inn: usize) -> Self {
        Self { n, inn, count: n.div_ceil(MAX_ROWS) }
    }

    /// Rows of a panel: the first `n % count` panels have one more than the others.
    pub(super) fn rows(&self, panel: usize) -> Range<usize> {
        self.first_row(panel)..self.first_row(panel + 1)
    }

    fn first_row(&self, panel: usize) -> usize {
        first_row(self.n, self.count, panel)
    }

    pub(super) fn num_blocks(&self) -> usize {
        self.count.div_ceil(PANELS_PER_BLOCK)
    }

    /// Panels of a block.
    pub(super) fn block(&self, block: usize) -> Range<usize> {
        let blocks = self.num_blocks();
        block * self.count / blocks..(block + 1) * self.count / blocks
    }

    /// Pieces of `inn`; a single panel has one, since nothing of it is read twice.
    pub(super) fn num_pieces(&self) -> usize {
        if self.count == 1 { 1 } else { self.inn.div_ceil(PIECE) }
    }

    /// Input features of a piece.
    pub(super) fn piece(&self, piece: usize) -> Range<usize> {
        if self.count == 1 { 0..self.inn } else { piece * PIECE..self.inn.min((piece + 1) * PIECE) }
    }

    /// Where a piece of a panel begins.
    pub(super) fn offset(&self, panel: usize, piece: usize) -> usize {
        let blocks = self.num_blocks();
        let mut block = panel * blocks / self.count;
        // Rounding may be off by one either way.
        while self.block(block).end <= panel {
            block += 1;
        }
        while self.block(block).start > panel {
            block -= 1;
        }
        let block = self.block(block);
        let first = self.first_row(block.start);
        let height = self.first_row(block.end) - first;
        let k = self.piece(piece);
        first * self.inn + k.start * height + (self.first_row(panel) - first) * k.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_places_every_number_once() {
        for (n, inn) in [(2, 5), (6, 256), (7, 300), (13, 257), (97, 3), (200, 513), (512, 16), (1000, 1)] {
            let panels = Panels::new(n, inn);
            let x: Vec<f32> = (0..n * inn).map(|i| i as f32).collect();
            let packed = with_packed(&panels, &x, |packed| {
                // SAFETY: as many numbers as `x` has were packed.
                Ok(unsafe { std::slice::from_raw_parts(packed, x.len()) }.to_vec())
            })
            .unwrap();
            let mut seen = vec![false; n * inn];
            for panel in 0..panels.count {
                let rows = panels.rows(panel);
                assert!((1..=MAX_ROWS).contains(&rows.len()), "{n} rows: panel {panel} has {rows:?}");
                for piece in 0..panels.num_pieces() {
                    let k = panels.piece(piece);
                    let at = panels.offset(panel, piece);
                    for (i, k) in k.enumerate() {
                        for (r, row) in rows.clone().enumerate() {
                            let index = at + i * rows.len() + r;
                            assert_eq!(packed[index], x[row * inn + k]);
                            assert!(!std::mem::replace(&mut seen[index], true));
                        }
                    }
                }
            }
            assert!(seen.iter().all(|s| *s), "{n} x {inn}");
            let blocks: Vec<usize> = (0..panels.num_blocks()).flat_map(|b| panels.block(b)).collect();
            assert_eq!(blocks, (0..panels.count).collect::<Vec<_>>());
        }
    }
}

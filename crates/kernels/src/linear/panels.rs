//! The left side of a product: rows in panels of up to six, laid out so that the innermost loop reads them in order.
//!
//! Layout: block, piece of `in`, panel, `k`, row. A block is what stays in the second-level cache, a piece what
//! keeps a tile's weights in the first.

use std::cell::RefCell;
use std::ops::Range;

use super::operand::Operand;
use crate::error::{KernelError, Result};
use crate::micro::{MAX_ROWS, first_row};
use crate::pool::parallel_for;
use crate::simd::{Isa, Lanes, multiversion};
use crate::tensor::Shared;

/// Operands of a piece.
const PIECE: usize = 256;
/// Panels of a block: 96 rows of a piece are 96 KiB.
const PANELS_PER_BLOCK: usize = 16;
/// Operands that are made at a time, before they are spread.
const STRIP: usize = 64;
/// Numbers below which packing stays on the caller.
const WORTHWHILE: usize = 1 << 15;

/// How `n` rows of `inn` operands are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    pub(super) n: usize,
    pub(super) inn: usize,
    /// Panels in all; their sizes differ by at most one.
    pub(super) count: usize,
}

thread_local! {
    /// Packed rows; kept, since every layer of every step needs as much again. Operands take four bytes each.
    static SCRATCH: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Call `use_packed` with the rows of `x` in panels.
pub(super) fn with_packed<X: Operand, T>(
    isa: Isa,
    panels: &Panels,
    x: &[f32],
    use_packed: impl FnOnce(*const X) -> Result<T>,
) -> Result<T> {
    const { assert!(size_of::<X>() == 4 && align_of::<X>() == 4) };
    if panels.n == 1 && X::IN_PLACE {
        return use_packed(x.as_ptr().cast());
    }
    let num = panels.n * panels.inn;
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.try_reserve(num).map_err(|_| KernelError::Memory { bytes: 4 * num })?;
        let packed = Shared::new(scratch.as_mut_ptr().cast::<X>());
        let pack = |panel: usize| {
            for piece in 0..panels.num_pieces() {
                // SAFETY: panels and pieces cut the `n * inn` operands without overlap, and this call alone
                // writes this panel.
                unsafe { pack_piece::<X>(isa, panels, x, panel, piece, packed.get()) }
            }
        };
        if x.len() < WORTHWHILE {
            (0..panels.count).for_each(pack);
        } else {
            parallel_for(panels.count, &pack)?;
        }
        use_packed(packed.get().cast_const())
    })
}

/// # Safety
/// `x` holds `n` rows, `packed` is writable for `n * inn` operands; panel and piece exist.
#[inline(always)]
unsafe fn pack_piece_body<L: Lanes, X: Operand>(
    panels: &Panels,
    x: &[f32],
    panel: usize,
    piece: usize,
    packed: *mut X,
) {
    let rows = panels.rows(panel);
    let k = panels.piece(piece);
    let (height, row_len) = (rows.len(), x.len() / panels.n);
    for (r, row) in rows.enumerate() {
        let row = &x[row * row_len..(row + 1) * row_len];
        // SAFETY: row and operand are within the bounds that the caller promised; operands are plain words.
        unsafe {
            let packed = packed.add(panels.offset(panel, piece) + r);
            let mut at = k.start;
            while at < k.end {
                let mut some = [std::mem::zeroed::<X>(); STRIP];
                let some = &mut some[..STRIP.min(k.end - at)];
                X::gather(row, at, some);
                for (i, x) in some.iter().enumerate() {
                    packed.add((at - k.start + i) * height).write(*x);
                }
                at += some.len();
            }
        }
    }
}
multiversion! {
    unsafe fn pack_piece [X: Operand] (
        panels: &Panels, x: &[f32], panel: usize, piece: usize, packed: *mut X,
    ) = pack_piece_body
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

    /// Operands of a piece.
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
    use super::super::operand::Plain;
    use super::*;

    #[test]
    fn packing_places_every_number_once() {
        for (n, inn) in [(2, 5), (6, 256), (7, 300), (13, 257), (97, 3), (200, 513), (512, 16), (1000, 1)] {
            let panels = Panels::new(n, inn);
            let x: Vec<f32> = (0..n * inn).map(|i| i as f32).collect();
            let packed = with_packed::<Plain<f32>, _>(Isa::detect(), &panels, &x, |packed| {
                // SAFETY: as many numbers as `x` has were packed.
                Ok(unsafe { std::slice::from_raw_parts(packed.cast::<f32>(), x.len()) }.to_vec())
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

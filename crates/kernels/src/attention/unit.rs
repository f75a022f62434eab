//! The unit of work: some tokens of one sequence, against one KV head.
//!
//! Its rows are pairs of a token and one of the query heads that share the KV head, so that every key and value
//! is read once for all of them.

use std::ops::Range;

use super::{AttentionBatch, AttentionSpec};
use crate::element::LANES;
use crate::kv::KvShape;
use crate::micro::{MAX_ROWS, first_row};
use crate::simd::Isa;
use crate::tensor::Shared;

/// Tiles of a span: 256 positions where blocks are multiples of sixteen.
pub(super) const SPAN_TILES: usize = 16;
/// Numbers of a row of scores.
pub(super) const SPAN: usize = SPAN_TILES * LANES;
/// Rows of a unit, where tokens can be chosen: eight panels that share what they read.
const ROWS_PER_UNIT: usize = 8 * MAX_ROWS;

/// One call of attention, as the threads see it.
pub(super) struct Problem<'a, E> {
    pub(super) isa: Isa,
    pub(super) q: &'a [f32],
    pub(super) batch: &'a AttentionBatch,
    pub(super) spec: &'a AttentionSpec,
    pub(super) shape: KvShape,
    pub(super) heads: usize,
    pub(super) keys: *const E,
    pub(super) values: *const E,
    pub(super) out: Shared<f32>,
}

// SAFETY: `keys` and `values` point into a cache that nothing writes while attention runs.
unsafe impl<E> Sync for Problem<'_, E> {}

/// Some tokens of one sequence, against one KV head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) tokens: Range<usize>,
    pub(super) sequence: usize,
    pub(super) kv_head: usize,
}

// === impl Problem ===

impl<E> Problem<'_, E> {
    /// Query heads that share a KV head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.shape.kv_heads
    }

    /// Elements of a head, padded to whole vectors.
    pub(super) fn padded_dim(&self) -> usize {
        self.shape.head_dim.next_multiple_of(LANES)
    }

    /// Cut the batch: runs of tokens of one sequence, a bounded number of rows each, for every KV head.
    pub(super) fn units(&self) -> Vec<Unit> {
        let most = (ROWS_PER_UNIT / self.group()).max(1);
        let mut units = Vec::new();
        let mut start = 0;
        for run in self.batch.sequence_of.chunk_by(|a, b| a == b) {
            let parts = run.len().div_ceil(most);
            for part in 0..parts {
                let tokens =
                    start + first_row(run.len(), parts, part)..start + first_row(run.len(), parts, part + 1);
                let sequence = run[0] as usize;
                units.extend((0..self.shape.kv_heads).map(|kv_head| Unit {
                    tokens: tokens.clone(),
                    sequence,
                    kv_head,
                }));
            }
            start += run.len();
        }
        units
    }

    pub(super) fn num_rows(&self, unit: &Unit) -> usize {
        unit.tokens.len() * self.group()
    }

    /// Where a row's query, and its result, begin.
    pub(super) fn row_start(&self, unit: &Unit, row: usize) -> usize {
        let token = unit.tokens.start + row / self.group();
        let head = unit.kv_head * self.group() + row % self.group();
        (token * self.heads + head) * self.shape.head_dim
    }

    /// Positions that a row sees.
    pub(super) fn seen(&self, unit: &Unit, row: usize) -> Range<usize> {
        let end = self.batch.positions[unit.tokens.start + row / self.group()] as usize + 1;
        self.spec.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Positions that any of `rows` sees.
    pub(super) fn seen_by_any(&self, unit: &Unit, rows: Range<usize>) -> Range<usize> {
        rows.map(|row| self.seen(unit, row))
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .unwrap_or(0..0)
    }

    /// Spans that hold what `seen` holds.
    pub(super) fn spans(&self, seen: &Range<usize>) -> Range<usize> {
        self.tile_of(seen.start) / SPAN_TILES..self.tile_of(seen.end - 1) / SPAN_TILES + 1
    }

    /// The tile of a position, counted from the sequence's first.
    pub(super) fn tile_of(&self, position: usize) -> usize {
        let size = self.shape.block_size;
        position / size * self.shape.groups() + position % size / LANES
    }

    /// Positions of a tile.
    pub(super) fn positions_of(&self, tile: usize) -> Range<usize> {
        let (block, group) = (tile / self.shape.groups(), tile % self.shape.groups());
        let first = block * self.shape.block_size + group * LANES;
        first..(first + LANES).min((block + 1) * self.shape.block_size)
    }

    /// Lanes of a tile that `seen` holds.
    pub(super) fn lanes_of(&self, tile: usize, seen: &Range<usize>) -> Range<usize> {
        let tile = self.positions_of(tile);
        let start = seen.start.clamp(tile.start, tile.end);
        start - tile.start..seen.end.clamp(start, tile.end) - tile.start
    }
}

//! How a step's attention is cut into units, and the words in which kernels read it: `cuda/attention.cuh`.
//!
//! A tile is some neighbouring tokens of one sequence, at consecutive positions, with all heads that share one of keys and
//! values. Small tiles fill one warp at most and are what decoding makes, large ones several. A unit is a tile and the
//! positions it is confronted with: all of them, or some of many spans, whose results are then merged.

use std::cmp::Reverse;

use vlinders_device::{Grid, Properties};

use super::OP;
use super::batch::{AttentionLimits, AttentionShape};
use crate::attention::AttentionBatch;
use crate::error::{KernelError, Result};
use crate::gpu::WARPGROUPS;

/// Heads of up to so many numbers have a kernel of their own.
pub(super) const WIDTHS: [usize; 4] = [64, 96, 128, 256];
/// Positions of a span.
const SPAN: usize = 128;
/// Rows of a warp.
const ROWS: usize = 16;
/// Warps of large tiles: the more, the less often keys and values are read.
const WARPS: usize = 8;
/// Warps of small tiles, of which one has rows, where that makes copies faster.
const HELPED_WARPS: usize = 4;
const WARP_THREADS: usize = 32;
/// Wider heads keep queries in shared memory, and have fewer positions at a time.
const WIDEST_IN_REGISTERS: usize = 128;

/// Of cuda/attention_warpgroups.cuh: threads of a block that has the rows of a large tile; tiles of positions that it has room for;
/// bytes of 64 numbers of 64 positions, and of counters; and where its shared memory begins, as an emulation has it end at a page.
const GROUP_THREADS: u32 = 384;
const GROUP_STAGES: usize = 4;
const GROUP_HALF_BYTES: usize = 64 * 128;
const GROUP_COUNTER_BYTES: usize = 144;
const GROUP_ALIGNED: usize = 1024;

/// No partial result.
const NONE: u32 = u32::MAX;
/// The row is padding.
const PADDING: u32 = u32::MAX - 1;
const HEADER: usize = 8;
const UNIT: usize = 6;

/// What blocks of a kernel have, for one of the two kinds of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Warps that have rows.
    warps: usize,
    /// For how many tiles of positions each takes shared memory.
    tiles: usize,
    /// The same with few blocks at work.
    most_tiles: usize,
    /// Numbers of a head that the kernel has room for.
    width: usize,
    /// How many run at once.
    resident: usize,
    multiprocessors: usize,
}

/// So many units of divided tiles there are for each block that runs, if spans are not more than that: few enough for copies to
/// go on from span to span, and enough for blocks to end at about the same time.
const ROUNDS: usize = 8;

/// Which tiles are divided among blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Splitting {
    /// Those that would keep a block busy while others have nothing left to do.
    Fair,
    /// All of which there is room for, with so many spans a unit.
    #[cfg(test)]
    Always(usize),
    /// None.
    #[cfg(test)]
    Never,
}

/// Makes plans; keeps its lists from step to step.
#[derive(Debug)]
pub(super) struct Planner {
    shape: AttentionShape,
    limits: AttentionLimits,
    pub(super) small: Blocks,
    pub(super) large: Blocks,
    /// The same rows by warpgroups, where there can be such blocks.
    pub(super) warpgroups: Option<Grid>,
    pub(super) splitting: Splitting,
    tiles: [Vec<Tile>; 2],
    units: Vec<[u32; UNIT]>,
    /// The first partial row of a token, and from one span to the next.
    partials_of: Vec<[u32; 2]>,
    words: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Tile {
    first_token: usize,
    tokens: usize,
    table: u32,
    /// Behind the last position that it sees.
    end: usize,
}

// === impl Blocks ===

impl Blocks {
    /// The most warps, at most `warps`, with which a block fits the device; they are more important than `tiles`.
    fn new(device: &Properties, head_dim: usize, warps: usize, tiles: usize) -> Self {
        let width = WIDTHS[WIDTHS.partition_point(|width| *width < head_dim)];
        let shared = device.shared_bytes as usize;
        let multiprocessors = device.multiprocessors as usize;
        let tiles = if width > WIDEST_IN_REGISTERS { 1 } else { tiles };
        let mut blocks = Self { warps, tiles, most_tiles: 1, width, resident: 0, multiprocessors };
        while blocks.warps * blocks.tiles > 1 && blocks.shared_bytes(2, blocks.tiles) > shared {
            if blocks.tiles > 1 {
                blocks.tiles -= 1;
            } else {
                blocks.warps /= 2;
            }
        }
        // A multiprocessor has a kilobyte more, and each block takes one; registers suffice for eight warps.
        let by_memory = (shared + 1024) / (blocks.shared_bytes(2, blocks.tiles) + 1024);
        blocks.most_tiles =
            if width <= WIDEST_IN_REGISTERS && blocks.shared_bytes(2, 2) <= shared { 2 } else { 1 };
        blocks.resident = multiprocessors * by_memory.clamp(1, 8 / blocks.warps);
        blocks
    }

    fn rows(&self) -> usize {
        self.warps * ROWS
    }

    /// As cuda/attention_tiles.cuh divides it, for a cache of numbers of that many bytes.
    fn shared_bytes(&self, number: usize, tiles: usize) -> usize {
        let is_wide = self.width > WIDEST_IN_REGISTERS;
        let positions = if is_wide { 32 } else { 64 };
        let cache_rows = 2 * SPAN * size_of::<u32>();
        let keys_and_values = 2 * positions * (self.width * number + 16 + size_of::<f32>());
        let merged = self.rows() * self.width * size_of::<f32>();
        let queries = if is_wide { self.rows() * (self.width + 8) * 2 } else { 0 };
        cache_rows + tiles * keys_and_values + merged + queries
    }

    /// For a cache of numbers of `number` bytes, and a step of so many tokens times heads of keys and values: blocks, and for
    /// how many tiles they have shared memory. Depends on nothing else that changes from step to step.
    pub(super) fn grid(&self, number: usize, heads: usize) -> (Grid, u32) {
        // With few blocks at work, copies are faster with more threads to ask for them, and asked for at once.
        let (warps, tiles, blocks) = if heads <= self.multiprocessors {
            let resident = self.resident.min(8 / HELPED_WARPS * self.multiprocessors);
            (self.warps.max(HELPED_WARPS), self.most_tiles, resident)
        } else {
            (self.warps, self.tiles, self.resident)
        };
        let grid = Grid::of(blocks, (warps * WARP_THREADS) as u32);
        // The plain kernels, which f32 activations have, take nothing.
        let grid = if number > 2 { grid } else { grid.with_shared(self.shared_bytes(number, tiles)) };
        (grid, tiles as u32)
    }

    /// Blocks of warpgroups that take the same tiles, one for each multiprocessor, if there is a kernel of this width.
    fn by_warpgroups(&self, device: &Properties) -> Option<Grid> {
        let halves = self.width / 64;
        let (queries, stage) = (2 * halves, 2 * halves + 1);
        let bytes = (queries + GROUP_STAGES * stage) * GROUP_HALF_BYTES + GROUP_COUNTER_BYTES;
        let bytes = bytes.next_multiple_of(GROUP_ALIGNED);
        let can = device.capability == WARPGROUPS
            && [64, 128].contains(&self.width)
            && self.warps == WARPS
            && bytes <= device.shared_bytes as usize;
        can.then(|| Grid::of(self.multiprocessors, GROUP_THREADS).with_shared(bytes))
    }
}

// === impl Planner ===

impl Planner {
    pub(super) fn new(device: &Properties, shape: AttentionShape, limits: AttentionLimits) -> Result<Self> {
        let small = Blocks::new(device, shape.head_dim, 1, 1);
        let large = Blocks::new(device, shape.head_dim, WARPS, 2);
        if shape.group() > large.rows() {
            let (group, rows) = (shape.group(), large.rows());
            let problem = format!("{group} heads share one of keys and values, a GPU takes {rows} at most");
            return Err(KernelError::shape(OP, problem));
        }
        Ok(Self {
            shape,
            limits,
            small,
            large,
            warpgroups: large.by_warpgroups(device),
            splitting: Splitting::Fair,
            tiles: Default::default(),
            units: Vec::new(),
            partials_of: Vec::new(),
            words: Vec::new(),
        })
    }

    /// The words of the longest plan.
    pub(super) fn most_words(limits: &AttentionLimits) -> usize {
        let units = limits.tokens + limits.partial_rows;
        HEADER + 3 * limits.tokens + UNIT * units + limits.table_entries
    }

    /// The plan for a checked batch whose rows are padded to `padded`, and whether all of its tiles are small.
    pub(super) fn plan(&mut self, batch: &AttentionBatch, padded: usize) -> (&[u32], bool) {
        self.find_tiles(batch);
        self.partials_of.clear();
        self.partials_of.resize(batch.positions.len(), [NONE, 0]);
        self.partials_of.resize(padded, [PADDING, 0]);
        let mut partial_rows = 0;
        let mut counts = [0; 2];
        self.units.clear();
        for kind in 0..2 {
            let before = self.units.len();
            self.cut(kind, &mut partial_rows);
            counts[kind] = self.units.len() - before;
            self.units[before..].sort_by_key(|unit| Reverse(unit[4] - unit[3]));
        }
        let positions = HEADER;
        let partials_of = positions + padded;
        let small = partials_of + 2 * padded;
        let large = small + UNIT * counts[0];
        let tables = large + UNIT * counts[1];
        let header = [counts[0], counts[1], small, large, positions, partials_of, tables, 0];
        self.words.clear();
        self.words.extend(header.map(|word| word as u32));
        self.words.extend(&batch.positions);
        self.words.resize(partials_of, 0);
        self.words.extend(self.partials_of.as_flattened());
        self.words.extend(self.units.as_flattened());
        self.words.extend(&batch.block_tables);
        (&self.words, counts[1] == 0)
    }

    /// Tokens that follow each other, in pieces that fit a tile.
    fn find_tiles(&mut self, batch: &AttentionBatch) {
        let group = self.shape.group();
        let [small, large] = [&self.small, &self.large].map(|blocks| blocks.rows() / group);
        for tiles in &mut self.tiles {
            tiles.clear();
        }
        let (positions, sequence_of) = (&batch.positions, &batch.sequence_of);
        let mut first = 0;
        while first < positions.len() {
            let next = |at: usize| {
                at < positions.len()
                    && sequence_of[at] == sequence_of[first]
                    && Some(positions[at]) == positions[at - 1].checked_add(1)
            };
            let most = large.max(1);
            let tokens = (1..most).take_while(|more| next(first + more)).count() + 1;
            let tile = Tile {
                first_token: first,
                tokens,
                table: batch.table_starts[sequence_of[first] as usize],
                end: positions[first + tokens - 1] as usize + 1,
            };
            self.tiles[usize::from(tokens > small)].push(tile);
            first += tokens;
        }
    }

    fn cut(&mut self, kind: usize, partial_rows: &mut usize) {
        let group = self.shape.group();
        let (blocks, patience) = [(&self.small, 4), (&self.large, 1)][kind];
        let tiles = &mut self.tiles[kind];
        tiles.sort_by_key(|tile| Reverse(tile.end));
        let spans = |tile: &Tile| tile.end.div_ceil(SPAN);
        let all: usize = tiles.iter().map(spans).sum();
        let fair_spans = all * self.shape.kv_heads / (ROUNDS * blocks.resident);
        for tile in tiles.iter() {
            let rows = tile.tokens * group;
            let more_than_fair = spans(tile) * patience * blocks.resident > all * self.shape.kv_heads;
            let (wanted, spans_of_unit) = match self.splitting {
                Splitting::Fair => (more_than_fair, fair_spans.max(1)),
                #[cfg(test)]
                Splitting::Always(spans) => (true, spans),
                #[cfg(test)]
                Splitting::Never => (false, 1),
            };
            let room = *partial_rows + rows * spans(tile) <= self.limits.partial_rows;
            let unit = |begin: usize, end: usize, partial: u32| {
                [tile.first_token * group, rows, tile.table as usize, begin, end, partial as usize]
                    .map(|word| word as u32)
            };
            if !wanted || !room || spans(tile) <= spans_of_unit {
                self.units.push(unit(0, tile.end, NONE));
                continue;
            }
            for span in (0..spans(tile)).step_by(spans_of_unit) {
                let partial = *partial_rows + span * rows;
                self.units.push(unit(
                    span * SPAN,
                    tile.end.min((span + spans_of_unit) * SPAN),
                    partial as u32,
                ));
            }
            for token in 0..tile.tokens {
                self.partials_of[tile.first_token + token] =
                    [*partial_rows + token * group, rows].map(|word| word as u32);
            }
            *partial_rows += rows * spans(tile);
        }
    }
}

#[cfg(test)]
mod tests;

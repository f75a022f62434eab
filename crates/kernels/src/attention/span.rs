//! One span of a sequence, for the rows of one unit: scores, weights, and weighted values.

use std::ops::Range;

use super::softmax::{Collected, cap_scores, scale_rows, softmax_row};
use super::unit::{Problem, SPAN, SPAN_TILES, Unit};
use crate::element::{Element, LANES};
use crate::micro::{
    Ahead, BY_ROW, MAX_ROWS, PACKED, Rows, Sums, accumulate, accumulate_list, first_row, with_rows,
};

/// Numbers of a tile that weigh one vector of the result.
const CHUNK: usize = LANES * LANES;

/// Working memory of a thread, kept between units.
#[derive(Default)]
pub(super) struct Scratch {
    /// Scaled queries, panel by panel: `[head_dim][rows of the panel]`.
    queries: Vec<f32>,
    /// `[rows][SPAN]`: scores, then weights.
    scores: Vec<f32>,
}

/// Where the tiles of a span begin, in keys and in values, each at its place within the span.
type Places = [usize; SPAN_TILES];

/// The panels of a unit: up to six rows that go through the innermost loop together.
#[derive(Clone, Copy)]
struct Panels {
    rows: usize,
    count: usize,
}

// === impl Panels ===

impl Panels {
    fn new(rows: usize) -> Self {
        Self { rows, count: rows.div_ceil(MAX_ROWS) }
    }

    fn all(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count)
            .map(move |p| first_row(self.rows, self.count, p)..first_row(self.rows, self.count, p + 1))
    }
}

// === impl Problem ===

impl<E: Element> Problem<'_, E> {
    /// Scale the unit's queries and lay them out.
    pub(super) fn prepare(&self, unit: &Unit, scratch: &mut Scratch) {
        let (rows, d) = (self.num_rows(unit), self.shape.head_dim);
        scratch.queries.resize(rows * d, 0.0);
        scratch.scores.resize(rows * SPAN, 0.0);
        for panel in Panels::new(rows).all() {
            let queries = &mut scratch.queries[panel.start * d..panel.end * d];
            for (r, row) in panel.clone().enumerate() {
                let q = &self.q[self.row_start(unit, row)..][..d];
                for (k, q) in q.iter().enumerate() {
                    queries[k * panel.len() + r] = q * self.spec.scale;
                }
            }
        }
    }

    /// Collect span `span` for every row of the unit that sees some of it: `collected[row]`, and `sums` as `[rows][padded_dim]`.
    /// `next` is the span whose turn it is on this thread afterwards, whose keys are fetched while values are read.
    ///
    /// # Safety
    /// The batch was checked against the cache; `scratch` is prepared for this unit; `sums` is valid for all rows.
    pub(super) unsafe fn collect(
        &self,
        unit: &Unit,
        span: usize,
        next: Option<usize>,
        scratch: &mut Scratch,
        collected: &mut [Collected],
        sums: *mut f32,
    ) {
        let (d, padded) = (self.shape.head_dim, self.padded_dim());
        let places = self.places(unit, span);
        let later = next.map_or(places, |next| self.places(unit, next));
        for rows in Panels::new(self.num_rows(unit)).all() {
            let seen = self.seen_by_any(unit, rows.clone());
            let first = span * SPAN_TILES;
            let tiles =
                self.tile_of(seen.start).max(first)..(self.tile_of(seen.end - 1) + 1).min(first + SPAN_TILES);
            if tiles.is_empty() {
                continue;
            }
            // SAFETY: the tiles are of positions that some row sees, so the block table has them; the panel's
            // queries, scores and sums lie where `prepare` and the caller made room for them.
            unsafe {
                let queries = scratch.queries.as_ptr().add(rows.start * d);
                let scores = scratch.scores.as_mut_ptr().add(rows.start * SPAN);
                let sums = sums.add(rows.start * padded);
                sums.write_bytes(0, rows.len() * padded);
                with_rows!(self.isa, rows.len(), R, T => self.score::<R, T>(&places, queries, scores, tiles.clone()));
                self.scale(&places, self.keys, rows.len(), scores, tiles.clone());
                self.shape_scores(rows.len(), scores, tiles.clone());
                for row in rows.clone() {
                    let seen = self.seen(unit, row);
                    let lanes = self.lanes_of_span(span, &seen);
                    if !lanes.is_empty() {
                        let scores = scores.add((row - rows.start) * SPAN);
                        softmax_row(self.isa, scores, lanes, &mut collected[row]);
                    }
                }
                self.scale(&places, self.values, rows.len(), scores, tiles.clone());
                self.weigh(unit, (&places, &later), rows, scores, tiles, sums);
            }
        }
    }

    /// Tiles that the sequence does not have are where its first one is.
    fn places(&self, unit: &Unit, span: usize) -> Places {
        let (table, groups) = (self.batch.table(unit.sequence), self.shape.groups());
        let first = span * SPAN_TILES;
        let (mut at, mut group) = (first / groups, first % groups);
        let mut places = [0; SPAN_TILES];
        for place in &mut places {
            let (block, group_of_block) = table.get(at).map_or((table[0], 0), |block| (*block, group));
            *place = self.shape.tile_start(block as usize, unit.kv_head, group_of_block);
            group += 1;
            if group == groups {
                (at, group) = (at + 1, 0);
            }
        }
        places
    }

    /// Places of a span's row of scores that `seen` holds.
    ///
    /// Where blocks are no multiple of sixteen, some places within the range belong to no position and hold
    /// minus infinity.
    fn lanes_of_span(&self, span: usize, seen: &Range<usize>) -> Range<usize> {
        let first = span * SPAN_TILES;
        let (from, to) = (self.tile_of(seen.start), self.tile_of(seen.end - 1));
        let start = if from < first { 0 } else { (from - first) * LANES + self.lanes_of(from, seen).start };
        let end = if to >= first + SPAN_TILES {
            SPAN
        } else if to < first {
            0
        } else {
            (to - first) * LANES + self.lanes_of(to, seen).end
        };
        if from >= first + SPAN_TILES { 0..0 } else { start..end }
    }

    /// Scores of a panel for `tiles`, `T` tiles at a time, each at its place within the span.
    ///
    /// # Safety
    /// As [`collect`](Self::collect); the panel has `R` rows.
    unsafe fn score<const R: usize, const T: usize>(
        &self,
        places: &Places,
        queries: *const f32,
        scores: *mut f32,
        tiles: Range<usize>,
    ) {
        let rows = Rows { start: queries, next_row: 0 };
        let place = |tile: usize| scores.wrapping_add(tile % SPAN_TILES * LANES);
        let key = |tile: usize| self.keys.wrapping_add(places[tile % SPAN_TILES]);
        let value = |tile: usize| self.values.wrapping_add(places[tile % SPAN_TILES]);
        // After the last keys come the first values.
        let soon = |tile: usize| match tile.checked_sub(tiles.end) {
            None => key(tile).cast(),
            Some(past) => value((tiles.start + past).min(tiles.end - 1)).cast(),
        };
        let sums = |tile| Sums { start: place(tile), next_row: SPAN, resume: false, bias: std::ptr::null() };
        let step = 4 * LANES * size_of::<E>();
        let second = |soon: *const u8, tile: usize| {
            if size_of::<E>() == 1 { value(tile).cast() } else { soon.wrapping_add(64) }
        };
        let d = self.shape.head_dim;
        let mut tile = tiles.start;
        while tile + T <= tiles.end {
            let keys = std::array::from_fn(|t| key(tile + t));
            let streams = std::array::from_fn(|t| soon(tile + T + t));
            let seconds = std::array::from_fn(|t| second(streams[t], tile + t));
            let ahead = Ahead { streams, seconds, step };
            // SAFETY: the caller's promise.
            unsafe { accumulate::<E, PACKED, R, T>(self.isa, rows, keys, d, ahead, sums(tile)) };
            tile += T;
        }
        for tile in tile..tiles.end {
            let streams = [soon(tile + 1)];
            let ahead = Ahead { streams, seconds: [second(streams[0], tile)], step };
            // SAFETY: the caller's promise.
            unsafe { accumulate::<E, PACKED, R, 1>(self.isa, rows, [key(tile)], d, ahead, sums(tile)) };
        }
    }

    /// Multiply the scores or weights of a panel by the scales of their positions, in a cache that has any: sums over
    /// codes become sums over numbers.
    ///
    /// # Safety
    /// As [`collect`](Self::collect); `numbers` is valid for `rows` rows of a span, `tiles_of` the cache's keys or values.
    unsafe fn scale(
        &self,
        places: &Places,
        tiles_of: *const E,
        rows: usize,
        numbers: *mut f32,
        tiles: Range<usize>,
    ) {
        if !self.shape.dtype.has_scales() {
            return;
        }
        let mut scales = [std::ptr::null(); SPAN_TILES];
        for (scales, tile) in scales.iter_mut().zip(tiles.clone()) {
            *scales = tiles_of.wrapping_add(places[tile % SPAN_TILES] + self.shape.tile()).cast::<f32>();
        }
        // SAFETY: the tiles are in the block table, each is followed by its scales, and they are of one span.
        unsafe {
            let numbers = numbers.add(tiles.start % SPAN_TILES * LANES);
            scale_rows(self.isa, numbers, rows, SPAN, &scales[..tiles.len()]);
        }
    }

    /// Cap the scores of a panel, then give minus infinity to lanes that belong to no position.
    ///
    /// # Safety
    /// `scores` is valid for `rows` rows of a span.
    unsafe fn shape_scores(&self, rows: usize, scores: *mut f32, tiles: Range<usize>) {
        for tile in tiles {
            let used = self.positions_of(tile).len();
            for row in 0..rows {
                // SAFETY: sixteen scores of the row's place for this tile.
                unsafe {
                    let place = scores.add(row * SPAN + tile % SPAN_TILES * LANES);
                    if let Some(cap) = self.spec.soft_cap {
                        cap_scores(self.isa, place, cap);
                    }
                    for lane in used..LANES {
                        place.add(lane).write(f32::NEG_INFINITY);
                    }
                }
            }
        }
    }

    /// Add values times weights. Only positions that a row sees are touched: what lies in the others may be
    /// anything, and zero times infinity is not zero.
    ///
    /// # Safety
    /// As [`collect`](Self::collect); `weights` and `sums` are those of the panel `rows`.
    unsafe fn weigh(
        &self,
        unit: &Unit,
        (places, later): (&Places, &Places),
        rows: Range<usize>,
        weights: *const f32,
        tiles: Range<usize>,
        sums: *mut f32,
    ) {
        let padded = self.padded_dim();
        let value = |tile: usize| self.values.wrapping_add(places[tile % SPAN_TILES]);
        let later = later.map(|place| self.keys.wrapping_add(place));
        let mut run: [*const E; SPAN_TILES] = [self.values; SPAN_TILES];
        let mut run_len = 0;
        // The panel's rows all see what the row with the latest start and the one with the earliest end see.
        let seen_by_all = rows
            .clone()
            .map(|row| self.seen(unit, row))
            .reduce(|a, b| a.start.max(b.start)..a.end.min(b.end))
            .unwrap_or(0..0);
        for tile in tiles.start..=tiles.end {
            let whole = tile < tiles.end && self.lanes_of(tile, &seen_by_all).len() == LANES;
            // SAFETY: the tile is in the block table; weights of the run begin `run_len` tiles before this one.
            unsafe {
                if whole {
                    run[run_len] = value(tile);
                    run_len += 1;
                    continue;
                }
                if run_len > 0 {
                    let x = weights.add((tile - run_len - tiles.start / SPAN_TILES * SPAN_TILES) * LANES);
                    with_rows!(self.isa, rows.len(), R, T => self.weigh_run::<R, T>(x, &run[..run_len], &later, sums));
                    run_len = 0;
                }
                if tile == tiles.end {
                    break;
                }
                let place = value(tile);
                for row in rows.clone() {
                    let lanes = self.lanes_of(tile, &self.seen(unit, row));
                    if !lanes.is_empty() {
                        let r = row - rows.start;
                        let x = weights.add(r * SPAN + tile % SPAN_TILES * LANES + lanes.start);
                        self.weigh_lanes(
                            x,
                            place.add(lanes.start * LANES),
                            lanes.len(),
                            sums.add(r * padded),
                        );
                    }
                }
            }
        }
    }

    /// Whole tiles, for all `R` rows of a panel.
    ///
    /// # Safety
    /// `x` holds the rows' weights for all of `tiles`, `sums` their sums.
    unsafe fn weigh_run<const R: usize, const T: usize>(
        &self,
        x: *const f32,
        tiles: &[*const E],
        later: &[*const E],
        sums: *mut f32,
    ) {
        let padded = self.padded_dim();
        let x = Rows { start: x, next_row: SPAN };
        let chunks = padded / LANES;
        let mut chunk = 0;
        // SAFETY: `chunk + T <= chunks`, and the caller's promise.
        unsafe {
            let out = |chunk: usize| Sums {
                start: sums.add(chunk * LANES),
                next_row: padded,
                resume: true,
                bias: std::ptr::null(),
            };
            while chunk + T <= chunks {
                accumulate_list::<E, R, T>(self.isa, x, tiles, later, chunk * CHUNK, out(chunk));
                chunk += T;
            }
            while chunk < chunks {
                accumulate_list::<E, R, 1>(self.isa, x, tiles, later, chunk * CHUNK, out(chunk));
                chunk += 1;
            }
        }
    }

    /// Some positions of one tile, for one row.
    ///
    /// # Safety
    /// `x` holds `len` weights; the tile's rows from `place` on are as many; `sums` is the row's.
    unsafe fn weigh_lanes(&self, x: *const f32, place: *const E, len: usize, sums: *mut f32) {
        let x = Rows { start: x, next_row: 0 };
        let chunks = self.padded_dim() / LANES;
        let mut chunk = 0;
        // SAFETY: the caller's promise.
        unsafe {
            let out = |chunk: usize| Sums {
                start: sums.add(chunk * LANES),
                next_row: 0,
                resume: true,
                bias: std::ptr::null(),
            };
            while chunk + 4 <= chunks {
                let tiles: [*const E; 4] = std::array::from_fn(|t| place.add((chunk + t) * CHUNK));
                let ahead = Ahead::pairs(tiles.map(|tile| tile.cast()), 0);
                accumulate::<E, BY_ROW, 1, 4>(self.isa, x, tiles, len, ahead, out(chunk));
                chunk += 4;
            }
            while chunk < chunks {
                let tile = place.add(chunk * CHUNK);
                let ahead = Ahead::pairs([tile.cast()], 0);
                accumulate::<E, BY_ROW, 1, 1>(self.isa, x, [tile], len, ahead, out(chunk));
                chunk += 1;
            }
        }
    }
}

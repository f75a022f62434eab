//! Sharing attention among threads: by units, and by spans where units are too few for long sequences.

use std::cell::RefCell;

use super::softmax::{Collected, finish_row, merge_row};
use super::span::Scratch;
use super::unit::{Problem, Unit};
use super::{AttentionBatch, AttentionSpec};
use crate::element::Element;
use crate::error::Result;
use crate::kv::{KvLayer, with_kv_element};
use crate::pool::{num_threads, parallel_for};
use crate::simd::Isa;
use crate::tensor::Shared;

/// Multiply-adds below which other threads are not asked.
const WORTHWHILE: usize = 1 << 16;
/// Units for each thread below which the spans of a unit are shared out too.
const UNITS_PER_THREAD: usize = 2;

#[derive(Default)]
struct Worker {
    scratch: Scratch,
    collected: Vec<Collected>,
    sums: Vec<f32>,
    span_collected: Vec<Collected>,
    span_sums: Vec<f32>,
}

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::default();
}

/// Write the attention of every row to `out`.
///
/// # Safety
/// `batch` was checked against the layer and the tokens of `q`; `out` is writable for `q.len()`; `isa` is there.
pub(super) unsafe fn attend(
    isa: Isa,
    q: &[f32],
    layer: &KvLayer,
    batch: &AttentionBatch,
    spec: &AttentionSpec,
    heads: usize,
    out: *mut f32,
) -> Result<()> {
    let shape = layer.shape();
    with_kv_element!(shape.dtype, E => {
        let (keys, values) = layer.tiles::<E>();
        let problem = Problem { isa, q, batch, spec, shape, heads, keys, values, out: Shared::new(out) };
        let units = problem.units();
        let most_spans = units.iter().map(|unit| problem.unit_spans(unit).len()).max().unwrap_or(0);
        let few = units.len() < UNITS_PER_THREAD * num_threads();
        if problem.work() < WORTHWHILE {
            parallel_for(1, &|_| units.iter().for_each(|unit| problem.whole(unit)))
        } else if few && most_spans > 1 && num_threads() > 1 {
            problem.by_spans(&units)
        } else {
            // The last tokens of a prompt see the most: begin with them.
            parallel_for(units.len(), &|i| problem.whole(&units[units.len() - 1 - i]))
        }
    })
}

// === impl Problem ===

impl<E: Element> Problem<'_, E> {
    fn unit_spans(&self, unit: &Unit) -> std::ops::Range<usize> {
        self.spans(&self.seen_by_any(unit, 0..self.num_rows(unit)))
    }

    /// Multiply-adds of the whole call, about.
    fn work(&self) -> usize {
        let seen: usize = self.batch.positions.iter().map(|p| *p as usize + 1).sum();
        seen.saturating_mul(2 * self.heads * self.shape.head_dim)
    }

    /// A whole unit: its spans one after the other.
    fn whole(&self, unit: &Unit) {
        let (rows, padded) = (self.num_rows(unit), self.padded_dim());
        WORKER.with_borrow_mut(|worker| {
            let Worker { scratch, collected, sums, span_collected, span_sums } = worker;
            self.prepare(unit, scratch);
            for part in [&mut *collected, span_collected] {
                part.resize(rows, Collected::default());
            }
            for part in [&mut *sums, span_sums] {
                part.resize(rows * padded, 0.0);
            }
            let spans = self.unit_spans(unit);
            for span in spans.clone() {
                let next = Some(span + 1).filter(|next| spans.contains(next));
                // SAFETY: the batch was checked, there is room for all rows, and no one else has this unit.
                unsafe {
                    self.collect(unit, span, next, scratch, span_collected, span_sums.as_mut_ptr());
                    let into = (&mut collected[..], sums.as_mut_ptr());
                    self.merge(unit, span, into, (span_collected, span_sums.as_ptr()));
                }
            }
            // SAFETY: as above.
            unsafe { self.finish(unit, collected, sums.as_ptr()) };
        });
    }

    /// One chunk for each span of each unit, then one for each unit to merge them in order.
    fn by_spans(&self, units: &[Unit]) -> Result<()> {
        let padded = self.padded_dim();
        let mut parts = Vec::new();
        let (mut first_part, mut num_rows) = (Vec::new(), 0);
        for (u, unit) in units.iter().enumerate() {
            first_part.push(parts.len());
            for span in self.unit_spans(unit) {
                parts.push((u, span, num_rows));
                num_rows += self.num_rows(unit);
            }
        }
        let mut all_collected = vec![Collected::default(); num_rows];
        let mut all_sums = vec![0.0f32; num_rows * padded];
        let (collected, sums) = (Shared::new(all_collected.as_mut_ptr()), Shared::new(all_sums.as_mut_ptr()));
        parallel_for(parts.len(), &|i| {
            let (u, span, row) = parts[i];
            let unit = &units[u];
            WORKER.with_borrow_mut(|worker| {
                self.prepare(unit, &mut worker.scratch);
                // SAFETY: the batch was checked; each part has rows of its own in both arrays.
                unsafe {
                    let collected =
                        std::slice::from_raw_parts_mut(collected.get().add(row), self.num_rows(unit));
                    self.collect(
                        unit,
                        span,
                        None,
                        &mut worker.scratch,
                        collected,
                        sums.get().add(row * padded),
                    );
                }
            });
        })?;
        parallel_for(units.len(), &|u| {
            let unit = &units[u];
            let rows = self.num_rows(unit);
            let mut into = vec![Collected::default(); rows];
            let mut into_sums = vec![0.0f32; rows * padded];
            for (_, span, row) in parts[first_part[u]..].iter().take_while(|part| part.0 == u) {
                // SAFETY: the first region has written these rows, and is over.
                unsafe {
                    let from = std::slice::from_raw_parts(collected.get().add(*row), rows);
                    let from_sums = sums.get().add(row * padded).cast_const();
                    self.merge(unit, *span, (&mut into, into_sums.as_mut_ptr()), (from, from_sums));
                }
            }
            // SAFETY: no other chunk has this unit.
            unsafe { self.finish(unit, &into, into_sums.as_ptr()) };
        })
    }

    /// Merge a span into what the spans before it gave, for the rows that see some of it.
    ///
    /// # Safety
    /// All four hold the rows of the unit.
    unsafe fn merge(
        &self,
        unit: &Unit,
        span: usize,
        (into, into_sums): (&mut [Collected], *mut f32),
        (from, from_sums): (&[Collected], *const f32),
    ) {
        let padded = self.padded_dim();
        for row in 0..into.len() {
            let spans = self.spans(&self.seen(unit, row));
            // SAFETY: the caller's promise.
            unsafe {
                let (sums, more) = (into_sums.add(row * padded), from_sums.add(row * padded));
                if span == spans.start {
                    into[row] = from[row];
                    sums.copy_from_nonoverlapping(more, padded);
                } else if spans.contains(&span) {
                    merge_row(self.isa, &mut into[row], sums, from[row], more, padded);
                }
            }
        }
    }

    /// # Safety
    /// Both hold the rows of the unit, whose results no one else writes.
    unsafe fn finish(&self, unit: &Unit, collected: &[Collected], sums: *const f32) {
        for (row, collected) in collected.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let out = self.out.get().add(self.row_start(unit, row));
                let sums = sums.add(row * self.padded_dim());
                finish_row(self.isa, sums, collected.total, out, self.shape.head_dim);
            }
        }
    }
}

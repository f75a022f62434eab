//! One head of one token at a time.

use super::{AttentionBatch, AttentionSpec};
use crate::element::{Element, LANES, with_element};
use crate::error::Result;
use crate::kv::KvLayer;
use crate::pool::parallel_for;
use crate::tensor::Shared;

/// # Safety
/// `batch` was checked, `q` holds its tokens, and `out` is writable for `q.len()`.
pub(super) unsafe fn attend(
    q: &[f32],
    layer: &KvLayer,
    batch: &AttentionBatch,
    spec: &AttentionSpec,
    heads: usize,
    out: *mut f32,
) -> Result<()> {
    let shape = layer.shape();
    let d = shape.head_dim;
    let out = Shared::new(out);
    with_element!(shape.dtype, E => {
        let (keys, values) = layer.tiles::<E>();
        let (keys, values) = (Shared::new(keys.cast_mut()), Shared::new(values.cast_mut()));
        parallel_for(batch.positions.len() * heads, &|row| {
            let (token, head) = (row / heads, row % heads);
            let kv_head = head / (heads / shape.kv_heads);
            let table = batch.table(batch.sequence_of[token] as usize);
            let end = batch.positions[token] as usize + 1;
            let start = spec.window.map_or(0, |w| end.saturating_sub(w));
            let q = &q[row * d..(row + 1) * d];
            let tile = |p: usize| {
                let offset = p % shape.block_size;
                let block = table[p / shape.block_size] as usize;
                (shape.tile_start(block, kv_head, offset / LANES), offset % LANES)
            };
            let mut scores = Vec::with_capacity(end - start);
            for p in start..end {
                let (tile, lane) = tile(p);
                let mut score = 0.0f32;
                for (i, q) in q.iter().enumerate() {
                    // SAFETY: the tile lies in the cache, as the batch was checked.
                    let key = unsafe { keys.get().add(tile + i * LANES + E::slot(lane)).read() };
                    score = key.to_f32().mul_add(*q, score);
                }
                score *= spec.scale;
                scores.push(spec.soft_cap.map_or(score, |cap| cap * (score / cap).tanh()));
            }
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut total = 0.0;
            let mut sums = vec![0.0f32; d];
            for (p, score) in (start..end).zip(&scores) {
                let weight = (score - max).exp();
                total += weight;
                let (tile, lane) = tile(p);
                for (i, sum) in sums.iter_mut().enumerate() {
                    let at = tile + (i / LANES * LANES + lane) * LANES + E::slot(i % LANES);
                    // SAFETY: the tile lies in the cache, as the batch was checked.
                    *sum = unsafe { values.get().add(at).read() }.to_f32().mul_add(weight, *sum);
                }
            }
            for (i, sum) in sums.iter().enumerate() {
                // SAFETY: this row is written by this chunk alone.
                unsafe { out.get().add(row * d + i).write(sum / total) };
            }
        })
    })
}

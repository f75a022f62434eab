//! Storing new keys and values into their slots.

use candle_core::Tensor;

use super::scale::scale_of;
use super::{KvLayer, KvShape, with_kv_element};
use crate::element::{Element, LANES};
use crate::error::{KernelError, Result};
use crate::pool::parallel_for;
use crate::tensor::{Shared, activations, read};

const OP: &str = "kv_write";

/// Store token `i` of `k` and `v` `[n, kv_heads, head_dim]` in slot `slots[i]` = block * block_size + offset,
/// rounded to the cache's dtype. Where a slot is given twice, the last one counts. In eight bits, a head of which a
/// number is NaN or infinite is read as NaN.
///
/// # Errors
/// Shapes that do not fit the cache, a slot beyond its end; nothing is written then.
pub fn kv_write(layer: &KvLayer, k: &Tensor, v: &Tensor, slots: &[u32]) -> Result<()> {
    let (k, v) = (activations(OP, "k", k)?, activations(OP, "v", v)?);
    let shape = layer.shape();
    let wanted = [slots.len(), shape.kv_heads, shape.head_dim];
    for (name, tensor) in [("k", &k), ("v", &v)] {
        if tensor.dims() != wanted {
            return Err(KernelError::shape(
                OP,
                format!("{name} is {:?}, the cache needs {wanted:?}", tensor.dims()),
            ));
        }
    }
    check_slots(OP, shape, slots)?;
    let (k, v) = (read(&k), read(&v));
    let (k, v) = (k.floats()?, v.floats()?);
    with_kv_element!(shape.dtype, E => write::<E>(layer, k, v, slots))
}

/// Every slot lies in a cache of `shape`.
pub(crate) fn check_slots(op: &'static str, shape: KvShape, slots: &[u32]) -> Result<()> {
    let limit = shape.num_blocks * shape.block_size;
    match slots.iter().find(|slot| **slot as usize >= limit) {
        Some(slot) => Err(KernelError::OutOfRange { op, what: "slot", index: *slot as usize, limit }),
        None => Ok(()),
    }
}

/// `k` and `v` hold `slots.len()` tokens, and every slot lies in the cache.
fn write<E: Element>(layer: &KvLayer, k: &[f32], v: &[f32], slots: &[u32]) -> Result<()> {
    let shape = layer.shape();
    let writer = HeadWriter::<E>::new(layer);
    let d = shape.head_dim;
    let heads_per_chunk = if slots.len() * d >= 4096 { 1 } else { shape.kv_heads };
    parallel_for(shape.kv_heads.div_ceil(heads_per_chunk), &|chunk| {
        let heads = chunk * heads_per_chunk..shape.kv_heads.min((chunk + 1) * heads_per_chunk);
        for (token, slot) in slots.iter().enumerate() {
            for head in heads.clone() {
                let from = (token * shape.kv_heads + head) * d;
                // SAFETY: the slots were checked. A head is written by one chunk only, and no read runs: the layer is
                // not shared between threads.
                unsafe { writer.write(*slot, head, &k[from..from + d], &v[from..from + d]) }
            }
        }
    })
}

/// Writes single heads into a layer, from any thread of a region.
pub(crate) struct HeadWriter<E> {
    shape: KvShape,
    keys: Shared<E>,
    values: Shared<E>,
}

// === impl HeadWriter ===

impl<E: Element> HeadWriter<E> {
    pub(crate) fn new(layer: &KvLayer) -> Self {
        let (keys, values) = layer.tiles_mut::<E>();
        Self { shape: layer.shape(), keys: Shared::new(keys), values: Shared::new(values) }
    }

    /// Store the key and the value of a head in a slot, rounded.
    ///
    /// # Safety
    /// `slot` and `head` lie in the cache, which is alive; `k` and `v` hold `head_dim` numbers; no one else reads or writes
    /// this head of this slot.
    pub(crate) unsafe fn write(&self, slot: u32, head: usize, k: &[f32], v: &[f32]) {
        let Self { shape, keys, values } = self;
        let (block, offset) = (slot as usize / shape.block_size, slot as usize % shape.block_size);
        let position = offset % LANES;
        let tile = shape.tile_start(block, head, offset / LANES);
        let (mut k_by, mut v_by) = (1.0, 1.0);
        if shape.dtype.has_scales() {
            let (k_scale, v_scale) = (scale_of(k), scale_of(v));
            (k_by, v_by) = (k_scale.recip(), v_scale.recip());
            // SAFETY: as below; the scales of a tile follow it, aligned as f32 are.
            unsafe {
                let scales = tile + shape.tile();
                keys.get().add(scales).cast::<f32>().add(position).write(k_scale);
                values.get().add(scales).cast::<f32>().add(position).write(v_scale);
            }
        }
        for i in 0..shape.head_dim {
            // SAFETY: block, head and group lie in the cache, `i < head_dim`, and `position < 16`.
            unsafe {
                let key = tile + i * LANES + E::slot(position);
                let value = tile + (i / LANES * LANES + position) * LANES + E::slot(i % LANES);
                keys.get().add(key).write(E::from_f32(k[i] * k_by));
                values.get().add(value).write(E::from_f32(v[i] * v_by));
            }
        }
    }
}

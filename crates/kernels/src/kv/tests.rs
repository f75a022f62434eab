//! Keys and values lie where attention looks for them; nothing else is touched.

use candle_core::DType;

use super::*;
use crate::testing::{noise, rounded, tensor};

/// Key and value element `i` of a head at a slot.
fn read<E: Element>(layer: &KvLayer, slot: usize, head: usize, i: usize) -> (f32, f32) {
    let shape = layer.shape();
    let (block, offset) = (slot / shape.block_size, slot % shape.block_size);
    let tile = shape.tile_start(block, head, offset / LANES);
    let position = offset % LANES;
    let (keys, values) = layer.tiles::<E>();
    // SAFETY: slot, head and element are inside the cache.
    unsafe {
        (
            keys.add(tile + i * LANES + E::slot(position)).read().to_f32(),
            values.add(tile + (i / LANES * LANES + position) * LANES + E::slot(i % LANES)).read().to_f32(),
        )
    }
}

fn check<E: Element>(dtype: DType, block_size: usize, heads: usize, d: usize, slots: &[u32]) {
    let num_blocks = 5;
    let layer = KvLayer::new(dtype, num_blocks, block_size, heads, d).unwrap();
    let (k, v) = (noise(1, slots.len() * heads * d), noise(2, slots.len() * heads * d));
    let shape = [slots.len(), heads, d];
    kv_write(&layer, &tensor(&k, &shape), &tensor(&v, &shape), slots).unwrap();
    for slot in 0..num_blocks * block_size {
        let writer = slots.iter().rposition(|s| *s as usize == slot);
        for head in 0..heads {
            for i in 0..d {
                let wanted = writer.map_or((0.0, 0.0), |token| {
                    let at = (token * heads + head) * d + i;
                    (rounded(dtype, k[at]), rounded(dtype, v[at]))
                });
                assert_eq!(read::<E>(&layer, slot, head, i), wanted, "slot {slot} head {head} element {i}");
            }
        }
    }
}

#[test]
fn every_slot_holds_what_was_last_written_to_it() {
    check::<f32>(DType::F32, 16, 2, 32, &[0, 17, 3, 79, 17]);
    check::<half::f16>(DType::F16, 4, 3, 20, &[0, 19, 7, 7]);
    check::<half::bf16>(DType::BF16, 24, 1, 80, &[119, 23, 16, 24]);
    // Enough to be shared among threads.
    let many: Vec<u32> = (0..80).rev().collect();
    check::<half::bf16>(DType::BF16, 16, 4, 64, &many);
}

#[test]
fn bad_arguments_are_errors_and_write_nothing() {
    let layer = KvLayer::new(DType::F32, 2, 4, 1, 2).unwrap();
    let one = tensor(&[1.0; 2], &[1, 1, 2]);
    let two = tensor(&[1.0; 4], &[2, 1, 2]);
    let error = |r: Result<()>| r.unwrap_err().to_string();
    assert_eq!(error(kv_write(&layer, &two, &two, &[0, 8])), "kv_write: slot 8 does not exist, there are 8");
    assert_eq!(
        error(kv_write(&layer, &one, &two, &[0])),
        "kv_write: v is [2, 1, 2], the cache needs [1, 1, 2]"
    );
    assert_eq!(read::<f32>(&layer, 0, 0, 0), (0.0, 0.0));
    assert!(KvLayer::new(DType::U8, 2, 4, 1, 2).is_err());
    assert!(KvLayer::new(DType::F32, 0, 4, 1, 2).is_err());
    assert!(matches!(KvLayer::new(DType::F32, usize::MAX / 8, 16, 8, 64), Err(KernelError::Memory { .. })));
}

#[test]
fn sizes_for_a_memory_plan() {
    let layer = KvLayer::new(DType::BF16, 3, 16, 8, 64).unwrap();
    assert_eq!(layer.num_bytes(), 3 * 2 * 16 * 8 * 64 * 2);
    assert_eq!(KvLayer::bytes_per_block(DType::BF16, 16, 8, 64).unwrap() * 3, layer.num_bytes());
    // Small blocks and odd heads are padded.
    assert_eq!(KvLayer::bytes_per_block(DType::F32, 4, 1, 20).unwrap(), 2 * 16 * 32 * 4);
}

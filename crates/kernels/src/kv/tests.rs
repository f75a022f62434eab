//! Keys and values lie where attention looks for them; nothing else is touched.

use candle_core::DType;

use super::*;
use crate::testing::{cached, noise, rounded, tensor};

fn check(dtype: KvDtype, block_size: usize, heads: usize, d: usize, slots: &[u32]) {
    let num_blocks = 5;
    let layer = KvLayer::new(dtype, num_blocks, block_size, heads, d).unwrap();
    let (k, v) = (noise(1, slots.len() * heads * d), noise(2, slots.len() * heads * d));
    let shape = [slots.len(), heads, d];
    kv_write(&layer, &tensor(&k, &shape), &tensor(&v, &shape), slots).unwrap();
    for slot in 0..num_blocks * block_size {
        let writer = slots.iter().rposition(|s| *s as usize == slot);
        for head in 0..heads {
            let written = |numbers: &[f32]| match writer {
                Some(token) => numbers[(token * heads + head) * d..][..d].to_vec(),
                None => vec![0.0; d],
            };
            let (keys, values) = cached(&layer, slot, head);
            assert_stored(dtype, &keys, &written(&k));
            assert_stored(dtype, &values, &written(&v));
        }
    }
}

/// `found` is what is left of `written`, all numbers of one head.
#[track_caller]
fn assert_stored(dtype: KvDtype, found: &[f32], written: &[f32]) {
    let greatest = written.iter().fold(0.0f32, |greatest, v| greatest.max(v.abs()));
    for (i, (found, v)) in found.iter().zip(written).enumerate() {
        let (wanted, off) = match dtype {
            KvDtype::F32 => (*v, 0.0),
            KvDtype::F16 => (rounded(DType::F16, *v), 0.0),
            KvDtype::BF16 => (rounded(DType::BF16, *v), 0.0),
            KvDtype::Int8 => (*v, greatest / 253.9),
        };
        assert!((found - wanted).abs() <= off, "element {i} is {found}, not {wanted}");
    }
}

#[test]
fn every_slot_holds_what_was_last_written_to_it() {
    check(KvDtype::F32, 16, 2, 32, &[0, 17, 3, 79, 17]);
    check(KvDtype::F16, 4, 3, 20, &[0, 19, 7, 7]);
    check(KvDtype::BF16, 24, 1, 80, &[119, 23, 16, 24]);
    check(KvDtype::Int8, 24, 2, 20, &[119, 23, 16, 24, 15, 23]);
    // Enough to be shared among threads.
    let many: Vec<u32> = (0..80).rev().collect();
    check(KvDtype::BF16, 16, 4, 64, &many);
    check(KvDtype::Int8, 16, 4, 64, &many);
}

#[test]
fn in_eight_bits_heads_of_any_size_lie_beside_each_other_and_bad_ones_stay_bad() {
    let (heads, d) = (2, 16);
    let layer = KvLayer::new(KvDtype::Int8, 1, 16, heads, d).unwrap();
    let sizes = [1e-3, 1e3, 1e-20, 1e20, 0.0, 7.0, 1.0, 2.0];
    let mut k: Vec<f32> = noise(3, sizes.len() * d);
    k.iter_mut().enumerate().for_each(|(i, v)| *v *= sizes[i / d]);
    let mut v: Vec<f32> = k.iter().rev().copied().collect();
    k[6 * d + 3] = f32::NAN;
    v[7 * d] = f32::NEG_INFINITY;
    let shape = [sizes.len() / heads, heads, d];
    kv_write(&layer, &tensor(&k, &shape), &tensor(&v, &shape), &[3, 2, 1, 0]).unwrap();
    for head in 0..sizes.len() {
        let (keys, values) = cached(&layer, 3 - head / heads, head % heads);
        for (bad, found, written) in [(6, keys, &k), (7, values, &v)] {
            if head == bad {
                assert!(found.iter().all(|v| v.is_nan()), "{found:?}");
            } else {
                assert_stored(KvDtype::Int8, &found, &written[head * d..][..d]);
            }
        }
    }
}

#[test]
fn bad_arguments_are_errors_and_write_nothing() {
    let layer = KvLayer::new(KvDtype::F32, 2, 4, 1, 2).unwrap();
    let one = tensor(&[1.0; 2], &[1, 1, 2]);
    let two = tensor(&[1.0; 4], &[2, 1, 2]);
    let error = |r: Result<()>| r.unwrap_err().to_string();
    assert_eq!(error(kv_write(&layer, &two, &two, &[0, 8])), "kv_write: slot 8 does not exist, there are 8");
    assert_eq!(
        error(kv_write(&layer, &one, &two, &[0])),
        "kv_write: v is [2, 1, 2], the cache needs [1, 1, 2]"
    );
    assert_eq!(cached(&layer, 0, 0), (vec![0.0; 2], vec![0.0; 2]));
    assert!(KvLayer::new(KvDtype::F32, 0, 4, 1, 2).is_err());
    for dtype in [KvDtype::F32, KvDtype::Int8] {
        let absurd = KvLayer::new(dtype, usize::MAX / 8, 16, 8, 64);
        assert!(matches!(absurd, Err(KernelError::Memory { .. })));
        assert!(matches!(
            KvLayer::bytes_per_block(dtype, 16, 8, usize::MAX),
            Err(KernelError::Memory { .. })
        ));
    }
}

#[test]
fn sizes_for_a_memory_plan() {
    let layer = KvLayer::new(KvDtype::BF16, 3, 16, 8, 64).unwrap();
    assert_eq!(layer.num_bytes(), 3 * 2 * 16 * 8 * 64 * 2);
    assert_eq!(KvLayer::bytes_per_block(KvDtype::BF16, 16, 8, 64).unwrap() * 3, layer.num_bytes());
    // Small blocks and odd heads are padded.
    assert_eq!(KvLayer::bytes_per_block(KvDtype::F32, 4, 1, 20).unwrap(), 2 * 16 * 32 * 4);
    // Eight bits: a byte for each number, padded as others are, and the scales of whole tiles.
    let layer = KvLayer::new(KvDtype::Int8, 3, 16, 8, 64).unwrap();
    assert_eq!(layer.num_bytes(), 3 * 2 * 16 * 8 * (64 + 4));
    assert_eq!(KvLayer::bytes_per_block(KvDtype::Int8, 16, 8, 64).unwrap() * 3, layer.num_bytes());
    assert_eq!(KvLayer::bytes_per_block(KvDtype::Int8, 24, 3, 20).unwrap(), 2 * 3 * 2 * (16 * 32 + 16 * 4));
}

//! Against the same operation on the CPU.

use super::*;
use crate::gpu::kv::tests::{cached_on_gpu, row_at};
use crate::gpu::testing::{assert_near, device, ids_on_gpu, on_gpu, rounded_to, values_of};
use crate::testing::{cached, noise, tensor, values};
use crate::{HeadNorms, KvLayer, Rotation};

const CACHES: [(DType, KvDtype); 8] = [
    (DType::BF16, KvDtype::BF16),
    (DType::BF16, KvDtype::Int8),
    (DType::F16, KvDtype::F16),
    (DType::F16, KvDtype::Int8),
    (DType::F32, KvDtype::F32),
    (DType::F32, KvDtype::BF16),
    (DType::F32, KvDtype::F16),
    (DType::F32, KvDtype::Int8),
];

/// Tokens at some positions and slots, one of them without a slot.
const POSITIONS: [u32; 5] = [0, 1, 7, 30, 2];
const SLOTS: [u32; 5] = [3, 0, u32::MAX, 17, 9];

struct Case {
    dtype: DType,
    cache: KvDtype,
    heads: usize,
    kv_heads: usize,
    d: usize,
    half: usize,
    normed: bool,
}

fn check(case: &Case) {
    let Case { dtype, cache, heads, kv_heads, d, half, normed } = *case;
    let gpu = device();
    let (n, width) = (POSITIONS.len(), (heads + 2 * kv_heads) * d);
    let rows = rounded_to(dtype, &noise(1, n * width));
    let weights = [2, 3].map(|seed| rounded_to(dtype, &noise(seed, d)));
    let (cos, sin) = (noise(4, 31 * half), noise(5, 31 * half));

    let layer = GpuKvLayer::new(&gpu, cache, 3, 7, kv_heads, d).unwrap();
    let own = weights.each_ref().map(|w| on_gpu(&gpu, w, &[d], dtype));
    let (gpu_cos, gpu_sin) =
        (on_gpu(&gpu, &cos, &[31, half], DType::F32), on_gpu(&gpu, &sin, &[31, half], DType::F32));
    let found = qkv(
        &on_gpu(&gpu, &rows, &[n, width], dtype),
        normed.then_some(HeadNorms { q: &own[0], k: &own[1], eps: 1e-5 }),
        Rotation { cos: &gpu_cos, sin: &gpu_sin, positions: &ids_on_gpu(&gpu, &POSITIONS) },
        &layer,
        &ids_on_gpu(&gpu, &SLOTS),
    )
    .unwrap();
    assert_eq!((found.dims(), found.dtype()), (&[n, heads, d][..], dtype));

    let on_cpu = KvLayer::new(cache, 4, 7, kv_heads, d).unwrap();
    // The CPU has a slot for everyone.
    let slots = SLOTS.map(|slot| slot.min(21));
    let own = weights.each_ref().map(|w| tensor(w, &[d]));
    let expected = crate::qkv(
        &tensor(&rows, &[n, width]),
        normed.then_some(HeadNorms { q: &own[0], k: &own[1], eps: 1e-5 }),
        Rotation { cos: &tensor(&cos, &[31, half]), sin: &tensor(&sin, &[31, half]), positions: &POSITIONS },
        &on_cpu,
        &slots,
    )
    .unwrap();
    let exact = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    assert_near(dtype, &values_of(&found), &exact(&values(&expected)));

    let stored = cached_on_gpu(&layer);
    for slot in 0..21 {
        for head in 0..kv_heads {
            let (key, value) = cached(&on_cpu, slot, head);
            let row = row_at(&layer, slot, head);
            let [own_key, own_value] = stored.each_ref().map(|all| &all[row * d..][..d]);
            if SLOTS.contains(&(slot as u32)) {
                // Values pass through, keys were computed in another order.
                assert_eq!(own_value, value);
                let precision = match cache {
                    KvDtype::F32 => DType::F32,
                    KvDtype::F16 => DType::F16,
                    // One code more or less.
                    KvDtype::BF16 | KvDtype::Int8 => DType::BF16,
                };
                assert_near(precision, own_key, &exact(&key));
            } else {
                assert!(own_key.iter().chain(own_value).all(|v| *v == 0.0), "slot {slot} is nobody's");
            }
        }
    }
}

#[test]
fn heads_are_normed_turned_and_stored_as_on_the_cpu() {
    for (dtype, cache) in CACHES {
        check(&Case { dtype, cache, heads: 4, kv_heads: 2, d: 64, half: 32, normed: true });
        check(&Case { dtype, cache, heads: 3, kv_heads: 1, d: 80, half: 15, normed: false });
    }
    let (dtype, cache) = CACHES[0];
    for (d, half, normed) in [(256, 128, true), (128, 16, true), (96, 0, true), (8, 4, false)] {
        check(&Case { dtype, cache, heads: 2, kv_heads: 2, d, half, normed });
    }
}

#[test]
fn a_token_has_the_same_bits_alone_and_among_others() {
    let gpu = device();
    let (n, d, width) = (POSITIONS.len(), 128, 7 * 128);
    let rows = noise(1, n * width);
    let weights = [2, 3].map(|seed| on_gpu(&gpu, &noise(seed, d), &[d], DType::BF16));
    let angles = [4, 5].map(|seed| on_gpu(&gpu, &noise(seed, 31 * 64), &[31, 64], DType::F32));
    let run = |first: usize, count: usize| {
        let layer = GpuKvLayer::new(&gpu, KvDtype::BF16, 3, 7, 2, d).unwrap();
        let found = qkv(
            &on_gpu(&gpu, &rows[first * width..][..count * width], &[count, width], DType::BF16),
            Some(HeadNorms { q: &weights[0], k: &weights[1], eps: 1e-5 }),
            Rotation {
                cos: &angles[0],
                sin: &angles[1],
                positions: &ids_on_gpu(&gpu, &POSITIONS[first..][..count]),
            },
            &layer,
            &ids_on_gpu(&gpu, &SLOTS[first..][..count]),
        )
        .unwrap();
        (values_of(&found), cached_on_gpu(&layer), layer)
    };
    let (all, cache, layer) = run(0, n);
    for token in 0..n {
        let (alone, own, _) = run(token, 1);
        assert_eq!(alone, all[token * 3 * d..][..3 * d]);
        for head in (0..2).filter(|_| SLOTS[token] != u32::MAX) {
            let row = row_at(&layer, SLOTS[token] as usize, head) * d;
            assert_eq!(own.each_ref().map(|of| &of[row..][..d]), cache.each_ref().map(|of| &of[row..][..d]));
        }
    }
}

#[test]
fn a_head_that_is_not_finite_is_not_a_number_in_eight_bits() {
    let gpu = device();
    let layer = GpuKvLayer::new(&gpu, KvDtype::Int8, 1, 2, 1, 16).unwrap();
    let still = on_gpu(&gpu, &[], &[1, 0], DType::F32);
    let mut rows = noise(1, 2 * 48);
    rows[20] = f32::INFINITY;
    qkv(
        &on_gpu(&gpu, &rows, &[2, 48], DType::F32),
        None,
        Rotation { cos: &still, sin: &still, positions: &ids_on_gpu(&gpu, &[0, 0]) },
        &layer,
        &ids_on_gpu(&gpu, &[0, 1]),
    )
    .unwrap();
    let [keys, values] = cached_on_gpu(&layer);
    assert!(keys[..16].iter().all(|v| v.is_nan()));
    assert!(keys[16..].iter().chain(&values).all(|v| v.is_finite()));
}

#[test]
fn shapes_and_types_that_do_not_fit_are_refused() {
    let gpu = device();
    let layer = GpuKvLayer::new(&gpu, KvDtype::BF16, 1, 4, 1, 16).unwrap();
    let of = |dims: &[usize], dtype| on_gpu(&gpu, &vec![0.5; dims.iter().product()], dims, dtype);
    let (angles, ids) = (of(&[2, 8], DType::F32), ids_on_gpu(&gpu, &[0, 1]));
    let run = |rows: &GpuTensor, angles: &GpuTensor, ids: &GpuTensor| {
        qkv(
            rows,
            None,
            Rotation { cos: angles, sin: angles, positions: ids },
            &layer,
            &ids_on_gpu(&gpu, &[0, 1]),
        )
    };
    let rows = of(&[2, 48], DType::BF16);
    assert!(run(&rows, &angles, &ids).is_ok());
    assert!(run(&of(&[2, 32], DType::BF16), &angles, &ids).is_err(), "no queries");
    assert!(run(&of(&[2, 48], DType::F16), &angles, &ids).is_err(), "a cache of another type");
    assert!(run(&rows, &of(&[1, 9], DType::F32), &ids).is_err(), "more than a head");
    assert!(run(&rows, &of(&[1, 8], DType::BF16), &ids).is_err(), "angles are f32");
    assert!(run(&rows, &angles, &ids_on_gpu(&gpu, &[0])).is_err(), "one position");
    let norms = HeadNorms { q: &of(&[16], DType::F32), k: &of(&[16], DType::BF16), eps: 0.0 };
    let rotation = Rotation { cos: &angles, sin: &angles, positions: &ids };
    assert!(qkv(&rows, Some(norms), rotation, &layer, &ids).is_err(), "norms have the type of activations");
}

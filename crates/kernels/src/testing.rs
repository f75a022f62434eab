//! What the tests of several operations share: inputs, stored bytes, and how to compare.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use crate::element::{Element, LANES};
use crate::format::Format;
use crate::kv::{KvLayer, with_kv_element};
use crate::weight::PackedWeight;

/// Reproducible numbers between -1 and 1.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
    .take(len)
    .collect()
}

pub(crate) fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Little-endian numbers as a checkpoint stores them.
pub(crate) fn stored(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// What is left of a number once it is stored.
pub(crate) fn rounded(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::F16 => f16::from_f32(value).to_f32(),
        DType::BF16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// The key and the value `[head_dim]` of a head that lie at a slot, as numbers.
pub(crate) fn cached(layer: &KvLayer, slot: usize, head: usize) -> (Vec<f32>, Vec<f32>) {
    let shape = layer.shape();
    let (block, offset) = (slot / shape.block_size, slot % shape.block_size);
    let tile = shape.tile_start(block, head, offset / LANES);
    let position = offset % LANES;
    with_kv_element!(shape.dtype, E => {
        let (keys, values) = layer.tiles::<E>();
        let number = |at: *const E, tile_of: *const E| {
            // SAFETY: slot, head and element are inside the cache, and scales follow their tile.
            unsafe {
                let scales = tile_of.add(tile + shape.tile()).cast::<f32>();
                let scale = if shape.dtype.has_scales() { *scales.add(position) } else { 1.0 };
                (*at).to_f32() * scale
            }
        };
        (0..shape.head_dim)
            .map(|i| {
                let key = tile + i * LANES + E::slot(position);
                let value = tile + (i / LANES * LANES + position) * LANES + E::slot(i % LANES);
                (number(keys.wrapping_add(key), keys), number(values.wrapping_add(value), values))
            })
            .unzip()
    })
}

pub(crate) fn weight(dtype: DType, out: usize, inn: usize, values: &[f32]) -> PackedWeight {
    PackedWeight::pack(Format::from_dtype(dtype).unwrap(), out, inn, &stored(dtype, values)).unwrap()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    // All NaNs are one: which of several a sum keeps is not ours to say.
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Panic unless each number is within `bound`, absolute or relative, of the exact one.
#[track_caller]
pub(crate) fn assert_close(found: &[f32], exact: &[f64], bound: f64) {
    assert_eq!(found.len(), exact.len());
    for (i, (found, exact)) in found.iter().zip(exact).enumerate() {
        let error = (f64::from(*found) - exact).abs();
        assert!(error <= bound * (1.0 + exact.abs()), "number {i} is {found}, not {exact}");
    }
}

/// A file with these bytes, which has no name any more.
pub(crate) fn temporary_file(bytes: &[u8]) -> std::fs::File {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("vlinders-kernels-{}-{count}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

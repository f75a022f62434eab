//! Attention of flat token batches over paged keys and values: `cuda/attention*.cu`.
//!
//! Work is cut into units by the host, see [`plan`]; which kernel a unit goes to, and whether its spans are walked by one
//! block or by many, changes nothing in the result.

mod batch;
mod plan;

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

pub use self::batch::{AttentionLimits, AttentionShape, GpuAttentionBatch};
use super::for_dtype;
use super::kv::GpuKvLayer;
use super::qkv::mismatch;
use crate::attention::AttentionSpec;
use crate::error::{KernelError, Result};
use crate::kv::KvDtype;

const OP: &str = "paged_attention";
const MERGE_THREADS: u32 = 128;
const MERGES: [&str; 3] = ["attention_merge_bf16", "attention_merge_f16", "attention_merge_f32"];

#[derive(Clone, Copy)]
#[repr(C)]
struct AttentionParams {
    q: u64,
    keys: u64,
    values: u64,
    key_scales: u64,
    value_scales: u64,
    plan: u64,
    out: u64,
    partials: u64,
    totals: u64,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    block_size: i32,
    window: u32,
    large: u32,
    tiles: u32,
    group: u32,
    inner: f32,
    outer: f32,
}

// SAFETY: the struct of cuda/attention.cuh, without padding.
unsafe impl Params for AttentionParams {}

/// Softmax attention of each query token over the keys and values of its sequence at positions `0..=p`, with a
/// window at `p - window + 1..=p`. Rows that pad the batch become zeros.
///
/// `q` is `[n, heads, head_dim]`, the result `[n, heads * head_dim]` of the same type; the batch was made for these sizes and
/// the cache.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn paged_attention(
    q: &GpuTensor,
    layer: &GpuKvLayer,
    batch: &GpuAttentionBatch,
    spec: &AttentionSpec,
) -> Result<GpuTensor> {
    let (shape, n) = (batch.shape(), batch.num_tokens());
    if q.dims() != [n, shape.heads, shape.head_dim] {
        let wanted = format!("[{n}, {}, {}], as the batch has it", shape.heads, shape.head_dim);
        return Err(KernelError::shape(OP, format!("q is {q:?}, it must be {wanted}")));
    }
    if !shape.is_of(layer) {
        return Err(KernelError::shape(OP, format!("the batch is for {shape:?}, not for {layer:?}")));
    }
    if spec.window == Some(0) {
        return Err(KernelError::shape(OP, "a window of 0 sees nothing: use at least 1, or None"));
    }
    let kernel = kernel_for(q.dtype(), layer.dtype(), shape.head_dim)?;
    let merge = for_dtype(OP, q.dtype(), MERGES)?;
    let gpu = q.gpu();
    let out = gpu.empty(&[n, shape.heads * shape.head_dim], q.dtype())?;
    let rows = batch.partial_rows() * shape.kv_heads;
    let partials = gpu.empty(&[rows, shape.head_dim], DType::F32)?;
    let totals = gpu.empty(&[rows, 2], DType::F32)?;
    let ([keys, values], [key_scales, value_scales]) = (layer.numbers(), layer.scales());
    let soft_cap = spec.soft_cap.filter(|_| spec.scale != 0.0);
    let params = AttentionParams {
        q: q.address(),
        keys,
        values,
        key_scales,
        value_scales,
        plan: batch.address(),
        out: out.address(),
        partials: partials.address(),
        totals: totals.address(),
        heads: shape.heads as i32,
        kv_heads: shape.kv_heads as i32,
        head_dim: shape.head_dim as i32,
        block_size: shape.block_size as i32,
        window: spec.window.and_then(|window| u32::try_from(window).ok()).unwrap_or(0),
        large: 0,
        tiles: 1,
        group: shape.group() as u32,
        // Weights are powers of two, which is what devices compute.
        inner: soft_cap.map_or(0.0, |cap| spec.scale / cap),
        outer: soft_cap.unwrap_or(spec.scale) * std::f32::consts::LOG2_E,
    };
    let (width, heads) = (layer.dtype().width(), n * shape.kv_heads);
    // SAFETY: the shapes were checked, and the ids of the batch against the cache; the outputs are new.
    unsafe {
        let (grid, tiles) = batch.small().grid(width, heads);
        gpu.launch(kernel, grid, &AttentionParams { tiles, ..params })?;
        if !batch.is_decode() {
            let by_warpgroups = by_warpgroups(q.dtype(), layer.dtype(), shape.head_dim);
            if let Some((kernel, grid)) = by_warpgroups.zip(batch.warpgroups()) {
                gpu.launch(kernel, grid, &AttentionParams { large: 1, ..params })?;
            } else {
                let (grid, tiles) = batch.large().grid(width, heads);
                gpu.launch(kernel, grid, &AttentionParams { large: 1, tiles, ..params })?;
            }
        }
        gpu.launch(merge, Grid::of_two(n, shape.kv_heads, MERGE_THREADS), &params)?;
    }
    Ok(out)
}

/// The kernel for queries and a cache of these types, and heads of `d` numbers or somewhat more.
fn kernel_for(activations: DType, cache: KvDtype, d: usize) -> Result<&'static str> {
    let by_width = |names: [&'static str; 4]| names[plan::WIDTHS.partition_point(|width| *width < d)];
    Ok(match (activations, cache) {
        (DType::BF16, KvDtype::BF16) => by_width([
            "attention_bf16_bf16_64",
            "attention_bf16_bf16_96",
            "attention_bf16_bf16_128",
            "attention_bf16_bf16_256",
        ]),
        (DType::F16, KvDtype::F16) => by_width([
            "attention_f16_f16_64",
            "attention_f16_f16_96",
            "attention_f16_f16_128",
            "attention_f16_f16_256",
        ]),
        (DType::BF16, KvDtype::Int8) => by_width([
            "attention_bf16_int8_64",
            "attention_bf16_int8_96",
            "attention_bf16_int8_128",
            "attention_bf16_int8_256",
        ]),
        (DType::F16, KvDtype::Int8) => by_width([
            "attention_f16_int8_64",
            "attention_f16_int8_96",
            "attention_f16_int8_128",
            "attention_f16_int8_256",
        ]),
        (DType::F32, KvDtype::F32) => "attention_f32_f32",
        (DType::F32, KvDtype::BF16) => "attention_f32_bf16",
        (DType::F32, KvDtype::F16) => "attention_f32_f16",
        (DType::F32, KvDtype::Int8) => "attention_f32_int8",
        _ => return Err(mismatch(OP, activations, cache)),
    })
}

/// The one that takes large tiles by warpgroups, if there is one.
fn by_warpgroups(activations: DType, cache: KvDtype, d: usize) -> Option<&'static str> {
    Some(match (activations, cache, d) {
        (DType::BF16, KvDtype::BF16, ..=64) => "attention_warpgroups_bf16_64",
        (DType::BF16, KvDtype::BF16, 97..=128) => "attention_warpgroups_bf16_128",
        (DType::F16, KvDtype::F16, ..=64) => "attention_warpgroups_f16_64",
        (DType::F16, KvDtype::F16, 97..=128) => "attention_warpgroups_f16_128",
        _ => return None,
    })
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;

//! What lies between the projection to queries, keys and values and attention: `cuda/qkv.cu`.

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::kv::GpuKvLayer;
use crate::error::{KernelError, Result};
use crate::kv::KvDtype;
use crate::qkv::{HeadNorms, Rotation};

const OP: &str = "qkv";
const THREADS: u32 = 128;
/// Pairs of numbers that a lane of a warp has.
const PAIRS: usize = 4;

/// Tables of angles and positions (u32) on the device.
type GpuRotation<'a> = Rotation<'a, GpuTensor, &'a GpuTensor>;

#[derive(Clone, Copy)]
#[repr(C)]
struct QkvParams {
    qkv: u64,
    q_norm: u64,
    k_norm: u64,
    cos: u64,
    sin: u64,
    positions: u64,
    slots: u64,
    q: u64,
    keys: u64,
    values: u64,
    key_scales: u64,
    value_scales: u64,
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    half: i32,
    block_size: i32,
    eps: f32,
}

// SAFETY: the struct of cuda/qkv.cu, without padding.
unsafe impl Params for QkvParams {}

/// Split the rows of `qkv` `[n, (heads + 2 * kv_heads) * head_dim]` into queries, keys and values; give queries and keys
/// their norms, if any, and their rotation; store keys and values of token `i` in slot `slots[i]` (u32) of `layer`, unless it
/// is `u32::MAX`. Returns the queries, `[n, heads, head_dim]`, in the type of `qkv`.
///
/// Positions and slots are on the device, so nobody checks them: positions must lie in the tables, slots in the cache, and
/// no slot may be given twice. They are copied there by the host, or are older than what the step was last asked for.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn qkv(
    qkv: &GpuTensor,
    norms: Option<HeadNorms<'_, GpuTensor>>,
    rotation: GpuRotation<'_>,
    layer: &GpuKvLayer,
    slots: &GpuTensor,
) -> Result<GpuTensor> {
    let shape = layer.shape();
    let (d, kv_heads) = (shape.head_dim, shape.kv_heads);
    let (n, heads) = match *qkv.dims() {
        [n, width] if width % d == 0 && width / d > 2 * kv_heads => (n, width / d - 2 * kv_heads),
        _ => {
            let wanted = format!("[n, (heads + 2 * {kv_heads}) * {d}], as the cache has it");
            return Err(KernelError::shape(OP, format!("qkv is {qkv:?}, it must be {wanted}")));
        }
    };
    let half = check_angles(&rotation, d)?;
    for (what, tensor) in [("positions", rotation.positions), ("slots", slots)] {
        if tensor.dims() != [n] || tensor.dtype() != DType::U32 {
            return Err(KernelError::shape(OP, format!("{what} are {tensor:?}, they must be [{n}] of u32")));
        }
    }
    for weight in norms.iter().flat_map(|norms| [norms.q, norms.k]) {
        if weight.dims() != [d] || weight.dtype() != qkv.dtype() {
            let problem = format!("a norm is {weight:?}, it must be [{d}] of {:?}", qkv.dtype());
            return Err(KernelError::shape(OP, problem));
        }
    }
    let norms = norms.as_ref();
    let kernel = kernel_for(qkv.dtype(), shape.dtype)?;
    let q = qkv.gpu().empty(&[n, heads, d], qkv.dtype())?;
    let ([keys, values], [key_scales, value_scales]) = (layer.numbers(), layer.scales());
    let params = QkvParams {
        qkv: qkv.address(),
        q_norm: norms.map_or(0, |norms| norms.q.address()),
        k_norm: norms.map_or(0, |norms| norms.k.address()),
        cos: rotation.cos.address(),
        sin: rotation.sin.address(),
        positions: rotation.positions.address(),
        slots: slots.address(),
        q: q.address(),
        keys,
        values,
        key_scales,
        value_scales,
        heads: heads as i32,
        kv_heads: kv_heads as i32,
        head_dim: d as i32,
        half: half as i32,
        block_size: shape.block_size as i32,
        eps: norms.map_or(0.0, |norms| norms.eps as f32),
    };
    let heads_of_warp = PAIRS / d.div_ceil(64).next_power_of_two();
    let heads_of_block = THREADS as usize / 32 * heads_of_warp;
    let grid = Grid::of_two(n, (heads + 2 * kv_heads).div_ceil(heads_of_block), THREADS);
    // SAFETY: the shapes were checked, the caller answers for positions and slots, and the stream orders accesses to the cache.
    unsafe { qkv.gpu().launch(kernel, grid, &params)? };
    Ok(q)
}

/// Half of the rotation that the tables describe, once it fits heads of `d`.
fn check_angles(rotation: &GpuRotation<'_>, d: usize) -> Result<usize> {
    let (cos, sin) = (rotation.cos, rotation.sin);
    match *cos.dims() {
        [_, half] if sin.dims() == cos.dims() && 2 * half <= d => {
            if cos.dtype() == DType::F32 && sin.dtype() == DType::F32 {
                return Ok(half);
            }
            Err(KernelError::shape(OP, format!("cos is {cos:?}, sin {sin:?}, they must be f32")))
        }
        _ => {
            let wanted = format!("both must be [max_pos, rot / 2] with a rotation of at most {d}");
            Err(KernelError::shape(OP, format!("cos is {cos:?}, sin {sin:?}: {wanted}")))
        }
    }
}

/// The kernel for activations and a cache of these types.
fn kernel_for(activations: DType, cache: KvDtype) -> Result<&'static str> {
    Ok(match (activations, cache) {
        (DType::BF16, KvDtype::BF16) => "qkv_bf16_bf16",
        (DType::BF16, KvDtype::Int8) => "qkv_bf16_int8",
        (DType::F16, KvDtype::F16) => "qkv_f16_f16",
        (DType::F16, KvDtype::Int8) => "qkv_f16_int8",
        (DType::F32, KvDtype::F32) => "qkv_f32_f32",
        (DType::F32, KvDtype::BF16) => "qkv_f32_bf16",
        (DType::F32, KvDtype::F16) => "qkv_f32_f16",
        (DType::F32, KvDtype::Int8) => "qkv_f32_int8",
        _ => return Err(mismatch(OP, activations, cache)),
    })
}

/// No kernel reads a cache of that type for such activations.
pub(super) fn mismatch(op: &'static str, activations: DType, cache: KvDtype) -> KernelError {
    let problem = format!(
        "activations of {activations:?} do not go with a cache of {cache} on a GPU: use their type, or int8"
    );
    KernelError::shape(op, problem)
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;

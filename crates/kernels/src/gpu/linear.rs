//! Products with weight matrices: `cuda/linear*.cu`.
//!
//! All kernels add up in one order, which `cuda/linear.cuh` defines, so which of them is chosen changes no bit. Those for activations of
//! eight bits are others, and have an instruction of their own.

mod arranged;
mod grouped;
#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;
mod variant;
mod w8a8;
mod wide;

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use self::arranged::arranged;
pub use self::grouped::expert_linear;
use self::variant::Half;
pub use self::variant::Variant;
use self::w8a8::Rounded;
pub use self::w8a8::W8A8;
pub use self::wide::{Wide, use_pairs};
use super::{GpuFormat, GpuMatrix, silu_mul};
use crate::error::{KernelError, Result};

const OP: &str = "linear";
const THREADS: u32 = 256;
/// Rows of activations begin at multiples of sixteen bytes.
const ALIGNED: usize = 8;
/// What a block of `linear_f32` has: a warp for each row of the matrix, and tokens.
const F32_ROWS: usize = 8;
const F32_TOKENS: usize = 4;

#[derive(Clone, Copy)]
#[repr(C)]
struct LinearParams {
    x: u64,
    codes: u64,
    scales: u64,
    bias: u64,
    y: u64,
    tokens: i32,
    inn: i32,
    out: i32,
    steps: i32,
    y_is_f32: i32,
    slots: i32,
    gated: i32,
    unused: i32,
}

// SAFETY: the struct of cuda/linear.cuh, without padding.
unsafe impl Params for LinearParams {}

#[derive(Clone, Copy)]
#[repr(C)]
struct PadRowsParams {
    x: u64,
    y: u64,
    width: i32,
    padded: i32,
}

// SAFETY: the struct of cuda/pad_rows.cu, without padding.
unsafe impl Params for PadRowsParams {}

/// `x w^T + bias` `[n, out]` in the type `out`, which is that of `x` or f32. `x` is `[n, in]`, `bias` `[out]` of its type. Weights are
/// quantised or of the type of `x`; when that is f32 they may be anything, and activations are not rounded.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn linear(x: &GpuTensor, w: &GpuMatrix, bias: Option<&GpuTensor>, out: DType) -> Result<GpuTensor> {
    linear_by(None, x, w, bias, out)
}

/// [`linear`] by a kernel of choice, whose result has the same bits; to measure them.
///
/// # Errors
/// Those of [`linear`], and a kernel that there is not for these weights.
pub fn linear_by(
    variant: Option<Variant>,
    x: &GpuTensor,
    w: &GpuMatrix,
    bias: Option<&GpuTensor>,
    out: DType,
) -> Result<GpuTensor> {
    let n = check(x, w, bias, out)?;
    let gpu = x.gpu();
    let y = gpu.empty(&[n, w.out_features()], out)?;
    let (x, half) = readable(x)?;
    let params = LinearParams::new(&x, w, bias, &y);
    match half {
        Some(half) => {
            let variant = variant.unwrap_or_else(|| Variant::choose(n, w));
            if matches!(variant, Variant::W8A8(_)) && !variant.can(n, w)
                || w.rounds_activations() && !matches!(variant, Variant::W8A8(_))
            {
                return Err(KernelError::shape(
                    OP,
                    format!("{variant:?} does not multiply {n} tokens with {w:?}"),
                ));
            }
            launch(variant, half, &x, w, params)?;
        }
        None => {
            let (rows, tokens) = (w.out_features().div_ceil(F32_ROWS), n.div_ceil(F32_TOKENS));
            let grid = Grid::of_two(rows, tokens, THREADS);
            // SAFETY: the shapes were checked, and the output is new.
            unsafe { gpu.launch(f32_kernel(w.format()), grid, &params)? };
        }
    }
    Ok(y)
}

/// `silu(g) * u` `[n, out / 2]`, where `x w^T` has g in its first half and u in its second, both rounded to the type of `x`.
///
/// # Errors
/// Those of [`linear`], and an odd number of outputs.
pub fn gated_linear(x: &GpuTensor, w: &GpuMatrix) -> Result<GpuTensor> {
    gated_linear_by(Variant::choose_gated(x.dims().first().copied().unwrap_or(0), w), x, w)
}

/// [`gated_linear`] by a kernel of choice, or by two where there is none.
fn gated_linear_by(variant: Option<Variant>, x: &GpuTensor, w: &GpuMatrix) -> Result<GpuTensor> {
    let (Some(variant), Some(half)) = (variant, Half::of(x.dtype())) else {
        return silu_mul(&linear(x, w, None, x.dtype())?);
    };
    let n = check(x, w, None, x.dtype())?;
    let y = x.gpu().empty(&[n, w.out_features() / 2], x.dtype())?;
    let x = aligned(x)?;
    let params =
        LinearParams { out: w.out_features() as i32, gated: 1, ..LinearParams::new(&x, w, None, &y) };
    launch(variant, half, &x, w, params)?;
    Ok(y)
}

/// `params` are those of `x`, which is [`readable`].
fn launch(
    variant: Variant,
    half: Half,
    x: &GpuTensor,
    w: &GpuMatrix,
    mut params: LinearParams,
) -> Result<()> {
    let n = params.tokens as usize;
    params.slots = variant.slots(w.steps()) as i32;
    // They are given back when the kernel was launched: what comes later, comes later on the device too.
    let rounded = match variant {
        Variant::W8A8(kernel) => Some(kernel.rounded(x, half, w.steps())?),
        _ => None,
    };
    let arranged = match variant.is_wide() {
        true => Some(arranged(x, variant.shape().1, w.steps())?),
        false => None,
    };
    if let Some(numbers) =
        rounded.as_ref().map(Rounded::numbers).or(arranged.as_ref().map(GpuTensor::address))
    {
        params.x = numbers;
    }
    // SAFETY: the shapes were checked by the caller, rows of `x` are aligned, and the output is new.
    unsafe { x.gpu().launch(variant.kernel(half, w.format()), variant.grid(n, w), &params)? };
    Ok(())
}

// === impl LinearParams ===

impl LinearParams {
    /// `x` is [`readable`], `y` `[n, out]`.
    fn new(x: &GpuTensor, w: &GpuMatrix, bias: Option<&GpuTensor>, y: &GpuTensor) -> Self {
        let width = |of: &GpuTensor| of.dims().last().map_or(0, |width| *width as i32);
        Self {
            x: x.address(),
            codes: w.codes(),
            scales: w.scales(),
            bias: bias.map_or(0, GpuTensor::address),
            y: y.address(),
            tokens: y.dims().first().map_or(0, |n| *n as i32),
            inn: width(x),
            out: width(y),
            steps: w.steps() as i32,
            y_is_f32: i32::from(y.dtype() == DType::F32),
            slots: 0,
            gated: 0,
            unused: 0,
        }
    }
}

fn f32_kernel(format: GpuFormat) -> &'static str {
    match format {
        GpuFormat::F32 => "linear_f32_f32",
        GpuFormat::F16 => "linear_f32_f16",
        GpuFormat::BF16 => "linear_f32_bf16",
        GpuFormat::Fp8 => "linear_f32_fp8",
        GpuFormat::Q8 => "linear_f32_q8",
        GpuFormat::Q4 => "linear_f32_q4",
    }
}

/// The number of tokens.
fn check(x: &GpuTensor, w: &GpuMatrix, bias: Option<&GpuTensor>, out: DType) -> Result<usize> {
    let wrong = |problem| Err(KernelError::shape(OP, problem));
    let n = match x.dims() {
        [n, inn] if *inn == w.in_features() => *n,
        _ => return wrong(format!("x is {x:?}, it must be [n, {}]", w.in_features())),
    };
    let dtype = x.dtype();
    if !matches!(dtype, DType::BF16 | DType::F16 | DType::F32) {
        return wrong(format!("activations are bf16, f16 or f32, not {dtype:?}"));
    }
    if dtype != DType::F32 && w.format().dtype().is_some_and(|of_weights| of_weights != dtype) {
        return wrong(format!("activations of {dtype:?} are not multiplied with weights of {}", w.format()));
    }
    if let Some(bias) = bias
        && (bias.dims() != [w.out_features()] || bias.dtype() != dtype)
    {
        return wrong(format!("bias is {bias:?}, it must be [{}] of {dtype:?}", w.out_features()));
    }
    if out != dtype && out != DType::F32 {
        return wrong(format!("a product of {dtype:?} is {dtype:?} or f32, not {out:?}"));
    }
    Ok(n)
}

/// `x` as kernels read it, and which of those for two-byte numbers do; kernels for f32 take any rows.
fn readable(x: &GpuTensor) -> Result<(GpuTensor, Option<Half>)> {
    match Half::of(x.dtype()) {
        Some(half) => Ok((aligned(x)?, Some(half))),
        None => Ok((x.clone(), None)),
    }
}

/// `x`, or a copy of it, so that rows begin at multiples of sixteen bytes: shorter ones end with zeros.
fn aligned(x: &GpuTensor) -> Result<GpuTensor> {
    let [n, width] = x.dims() else { return Ok(x.clone()) };
    if width.is_multiple_of(ALIGNED) && x.address().is_multiple_of(16) {
        return Ok(x.clone());
    }
    let y = x.gpu().empty(&[*n, width.next_multiple_of(ALIGNED)], x.dtype())?;
    let params = PadRowsParams {
        x: x.address(),
        y: y.address(),
        width: *width as i32,
        padded: width.next_multiple_of(ALIGNED) as i32,
    };
    // SAFETY: rows are as long as they say, and the output is new.
    unsafe { x.gpu().launch("pad_rows", Grid::of(*n, THREADS), &params)? };
    Ok(y)
}

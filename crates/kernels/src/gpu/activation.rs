//! The gate of an MLP: `cuda/silu_mul.cu`.

use vlinders_device::{GpuTensor, Grid, Params};

use super::for_dtype;
use crate::error::{KernelError, Result};

const THREADS: usize = 256;
const KERNELS: [&str; 3] = ["silu_mul_bf16", "silu_mul_f16", "silu_mul_f32"];

#[derive(Clone, Copy)]
#[repr(C)]
struct SiluMulParams {
    gate_up: u64,
    y: u64,
    width: i32,
    alike: u32,
}

// SAFETY: the struct of cuda/silu_mul.cu, without padding.
unsafe impl Params for SiluMulParams {}

/// `silu(gate) * up` `[n, i]`, where `gate_up` `[n, 2 i]` has the gates of a row first.
///
/// # Errors
/// Shapes and types that do not fit, or a failing device.
pub fn silu_mul(gate_up: &GpuTensor) -> Result<GpuTensor> {
    const OP: &str = "silu_mul";
    let [rows, both] = gate_up.dims() else {
        return Err(KernelError::shape(OP, format!("gates and values must be [n, 2 i], not {gate_up:?}")));
    };
    if both % 2 != 0 {
        return Err(KernelError::shape(OP, format!("rows of {both} numbers have no halves")));
    }
    let kernel = for_dtype(OP, gate_up.dtype(), KERNELS)?;
    let width = both / 2;
    let y = gate_up.gpu().empty(&[*rows, width], gate_up.dtype())?;
    let alike =
        (width * gate_up.dtype().size_in_bytes()).is_multiple_of(16) && gate_up.address().is_multiple_of(16);
    let per_block = THREADS * if alike { 16 / gate_up.dtype().size_in_bytes() } else { 1 };
    let grid = Grid::of_two(*rows, width.div_ceil(per_block), THREADS as u32);
    let params = SiluMulParams {
        gate_up: gate_up.address(),
        y: y.address(),
        width: width as i32,
        alike: u32::from(alike),
    };
    // SAFETY: the shapes were checked, and the output is new.
    unsafe { gate_up.gpu().launch(kernel, grid, &params)? };
    Ok(y)
}

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests {
    use super::*;
    use crate::gpu::testing::{DTYPES, assert_near, device, on_gpu, rounded_to, values_of};
    use crate::reference;
    use crate::testing::noise;

    #[test]
    fn gates_of_any_width_are_applied() {
        let gpu = device();
        for (rows, width) in [(1, 8), (3, 100), (2, 7), (2, 2304)] {
            for dtype in DTYPES {
                let values: Vec<f32> = noise(1, rows * 2 * width).iter().map(|x| 8.0 * x).collect();
                let values = rounded_to(dtype, &values);
                let y = silu_mul(&on_gpu(&gpu, &values, &[rows, 2 * width], dtype)).unwrap();
                assert_eq!(y.dims(), [rows, width]);
                assert_near(dtype, &values_of(&y), &reference::silu_mul(&values, width));
            }
        }
    }

    #[test]
    fn rows_without_halves_are_refused() {
        assert!(silu_mul(&on_gpu(&device(), &[1.0; 9], &[3, 3], candle_core::DType::F32)).is_err());
    }
}

//! Large matrix products by the vendor's library: fast, and summed in an order that depends on all sizes.

use candle_core::DType;

use crate::{DeviceError, Gpu, GpuTensor, Result};

/// `y = x w^T`, all row by row, summed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Product {
    /// `[rows, inn]`.
    pub(crate) x: u64,
    /// `[out, inn]`, a row beginning every `w_stride` numbers.
    pub(crate) w: u64,
    /// `[rows, out]`.
    pub(crate) y: u64,
    /// Factors of x and w in f32, or 0: where numbers have eight bits.
    pub(crate) x_scale: u64,
    pub(crate) w_scale: u64,
    pub(crate) sizes: ProductSizes,
}

/// What the library chooses its kernel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProductSizes {
    pub(crate) rows: usize,
    pub(crate) inn: usize,
    pub(crate) out: usize,
    pub(crate) w_stride: usize,
    pub(crate) numbers: Numbers,
    pub(crate) y_is_f32: bool,
}

/// The type of x and w.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Numbers {
    BF16,
    F16,
    /// Eight bits, four of them exponent; the result is bf16 unless it is f32.
    Fp8,
}

/// Where the rows of a weight lie, for [`Gpu::product`].
#[derive(Debug, Clone, Copy)]
pub struct WeightRows {
    /// The first number.
    pub address: u64,
    /// Rows.
    pub out: usize,
    /// Numbers of a row.
    pub inn: usize,
    /// Numbers from one row to the next.
    pub stride: usize,
    /// The factor of all of them, one f32, or 0: for numbers of eight bits.
    pub scale: u64,
}

// === impl Gpu ===

impl Gpu {
    /// `x w^T` of two tensors by the vendor's library: `[rows, inn]` and `[out, inn]`, both of bf16 or both of f16.
    ///
    /// # Errors
    /// As [`product`](Self::product).
    pub fn product_of_tensors(&self, x: &GpuTensor, w: &GpuTensor, out: DType) -> Result<GpuTensor> {
        let [rows, inn] = w.dims()[..] else {
            return Err(DeviceError::Tensor(format!("{w:?} has no rows")));
        };
        if w.dtype() != x.dtype() || !w.gpu().is(self) {
            return Err(DeviceError::Tensor(format!("{x:?} and {w:?} are not of one type on this device")));
        }
        let w = WeightRows { address: w.address(), out: rows, inn, stride: inn, scale: 0 };
        // SAFETY: a tensor is as long as it says.
        unsafe { self.product(x, w, None, out) }
    }

    /// `x w^T` by the vendor's library, `[rows, out]` in `out`: x is `[rows, inn]` in bf16 or f16, and w has its type. With
    /// `x_scale`, the address of an f32, both have eight bits (e4m3) and are multiplied by their factors.
    ///
    /// # Errors
    /// Sizes and types that do not fit, no such library, or a failing device.
    ///
    /// # Safety
    /// `w` and `x_scale` describe valid memory of this device.
    pub unsafe fn product(
        &self,
        x: &GpuTensor,
        w: WeightRows,
        x_scale: Option<u64>,
        out: DType,
    ) -> Result<GpuTensor> {
        let numbers = match (x.dtype(), x_scale) {
            (DType::BF16, None) => Numbers::BF16,
            (DType::F16, None) => Numbers::F16,
            (DType::F8E4M3, Some(_)) => Numbers::Fp8,
            (other, _) => return Err(DeviceError::Tensor(format!("products have no {other:?}"))),
        };
        let [rows, inn] = x.dims()[..] else {
            return Err(DeviceError::Tensor(format!("{x:?} has no rows")));
        };
        if inn != w.inn {
            return Err(DeviceError::Tensor(format!("{x:?} does not fit rows of {} numbers", w.inn)));
        }
        let y = self.empty(&[rows, w.out], out)?;
        if self.is_rehearsing() || rows == 0 {
            return Ok(y);
        }
        let sizes =
            ProductSizes { rows, inn, out: w.out, w_stride: w.stride, numbers, y_is_f32: out == DType::F32 };
        let product = Product {
            x: x.address(),
            w: w.address,
            y: y.address(),
            x_scale: x_scale.unwrap_or(0),
            w_scale: w.scale,
            sizes,
        };
        // SAFETY: x and y are as long as they say; the caller answers for the rest.
        unsafe { self.driver().product(&product)? };
        Ok(y)
    }
}

//! What the tests of several kernels share: a device, numbers on it, and how close results must be.

use candle_core::{DType, Device};
use vlinders_device::{Gpu, GpuTensor};

use super::{test_device, tests_run_on_cuda};

/// The types that activations have.
pub(crate) const DTYPES: [DType; 3] = [DType::BF16, DType::F16, DType::F32];

/// A device; where it is emulated, its threads run in shuffled order.
pub(crate) fn device() -> Gpu {
    test_device(2).unwrap()
}

/// Devices on which threads run in several orders: first to last, last to first, shuffled. A real one has its own.
pub(crate) fn devices() -> impl Iterator<Item = Gpu> {
    let orders = if tests_run_on_cuda().unwrap() { 1 } else { 4 };
    (0..orders).map(|order| test_device(order).unwrap())
}

/// Numbers as a tensor of this type on the device.
pub(crate) fn on_gpu(gpu: &Gpu, values: &[f32], dims: &[usize], dtype: DType) -> GpuTensor {
    let tensor = candle_core::Tensor::from_slice(values, dims, &Device::Cpu).unwrap();
    GpuTensor::upload(gpu, &tensor.to_dtype(dtype).unwrap()).unwrap()
}

/// Whole numbers on the device.
pub(crate) fn ids_on_gpu(gpu: &Gpu, ids: &[u32]) -> GpuTensor {
    let tensor = candle_core::Tensor::from_slice(ids, ids.len(), &Device::Cpu).unwrap();
    GpuTensor::upload(gpu, &tensor).unwrap()
}

/// The numbers of a tensor.
pub(crate) fn values_of(tensor: &GpuTensor) -> Vec<f32> {
    let tensor = tensor.to_cpu().unwrap().to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// What is left of numbers in this type.
pub(crate) fn rounded_to(dtype: DType, values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| crate::testing::rounded(dtype, *value)).collect()
}

/// Panic unless numbers of this type are as close to the exact ones as rounding them allows, twice over.
#[track_caller]
pub(crate) fn assert_near(dtype: DType, found: &[f32], exact: &[f64]) {
    let bound = match dtype {
        DType::BF16 => 2f64.powi(-7),
        DType::F16 => 2f64.powi(-10),
        _ => 1e-5,
    };
    crate::testing::assert_close(found, exact, bound);
}

//! Tensors of a step: on the CPU those of candle, on a GPU a region of device memory.

use std::sync::Arc;

use candle_core::{DType, Device};

use crate::memory::Region;
use crate::{DeviceBuffer, DeviceError, Gpu, Result};

/// Numbers that layers pass on, wherever they are.
#[derive(Debug, Clone)]
pub enum Tensor {
    /// In memory of the host.
    Cpu(candle_core::Tensor),
    /// In memory of a device.
    Gpu(GpuTensor),
}

/// Contiguous numbers in device memory.
#[derive(Clone)]
pub struct GpuTensor {
    region: Arc<Region>,
    offset: usize,
    dims: Vec<usize>,
    dtype: DType,
}

// === impl Tensor ===

impl Tensor {
    /// Its sizes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        match self {
            Self::Cpu(tensor) => tensor.dims(),
            Self::Gpu(tensor) => tensor.dims(),
        }
    }

    /// Type of its numbers.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::Cpu(tensor) => tensor.dtype(),
            Self::Gpu(tensor) => tensor.dtype(),
        }
    }

    /// The tensor, which must be on the CPU.
    ///
    /// # Errors
    /// When it is not.
    pub fn cpu(&self, op: &'static str, what: &'static str) -> Result<&candle_core::Tensor> {
        match self {
            Self::Cpu(tensor) => Ok(tensor),
            Self::Gpu(_) => Err(DeviceError::OtherDevice { op, what, found: "GPU", wanted: "CPU" }),
        }
    }

    /// The tensor, which must be on a GPU.
    ///
    /// # Errors
    /// When it is not.
    pub fn gpu(&self, op: &'static str, what: &'static str) -> Result<&GpuTensor> {
        match self {
            Self::Gpu(tensor) => Ok(tensor),
            Self::Cpu(_) => Err(DeviceError::OtherDevice { op, what, found: "CPU", wanted: "GPU" }),
        }
    }

    /// Its numbers in memory of the host, in their type. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_cpu(&self) -> Result<candle_core::Tensor> {
        match self {
            Self::Cpu(tensor) => Ok(tensor.clone()),
            Self::Gpu(tensor) => tensor.to_cpu(),
        }
    }
}

impl From<candle_core::Tensor> for Tensor {
    fn from(tensor: candle_core::Tensor) -> Self {
        Self::Cpu(tensor)
    }
}

impl From<GpuTensor> for Tensor {
    fn from(tensor: GpuTensor) -> Self {
        Self::Gpu(tensor)
    }
}

// === impl GpuTensor ===

impl GpuTensor {
    pub(crate) fn new(region: Region, dims: &[usize], dtype: DType) -> Self {
        Self { region: Arc::new(region), offset: 0, dims: dims.to_vec(), dtype }
    }

    /// The beginning of a buffer as a tensor.
    ///
    /// # Errors
    /// When the buffer is too short.
    pub fn of_buffer(buffer: &DeviceBuffer, dims: &[usize], dtype: DType) -> Result<Self> {
        buffer.check(0, dims.iter().product::<usize>() * dtype.size_in_bytes())?;
        Ok(Self { region: Arc::clone(buffer.region()), offset: 0, dims: dims.to_vec(), dtype })
    }

    /// A copy of a tensor of candle, in memory that stays. It is there when this returns: kernels may read what stays before
    /// kernels before them have ended.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn upload(gpu: &Gpu, tensor: &candle_core::Tensor) -> Result<Self> {
        let bytes = bytes_of(tensor)?;
        let buffer = gpu.allocate(bytes.len())?;
        gpu.write(&buffer, 0, &bytes)?;
        gpu.wait()?;
        Self::of_buffer(&buffer, tensor.dims(), tensor.dtype())
    }

    /// Fill it with the numbers of a tensor of the same shape and type.
    ///
    /// # Errors
    /// When shape or type differ, or the device fails.
    pub fn write(&self, tensor: &candle_core::Tensor) -> Result<()> {
        if tensor.dims() != self.dims() || tensor.dtype() != self.dtype {
            let problem = format!("{:?} {:?} can not be written to {self:?}", tensor.dims(), tensor.dtype());
            return Err(DeviceError::Tensor(problem));
        }
        self.gpu().write_at(self.address(), &bytes_of(tensor)?)
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        self.region.gpu()
    }

    /// Its sizes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Type of its numbers.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its first number, as kernels know it.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.region.address() + self.offset as u64
    }

    /// How many numbers.
    #[must_use]
    pub fn num_elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Bytes of its numbers.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.num_elements() * self.dtype.size_in_bytes()
    }

    /// The same numbers in another shape.
    ///
    /// # Errors
    /// When that has another number of them.
    pub fn reshape(&self, dims: &[usize]) -> Result<Self> {
        if dims.iter().product::<usize>() != self.num_elements() {
            return Err(DeviceError::Tensor(format!("{:?} can not be {dims:?}", self.dims)));
        }
        Ok(Self { dims: dims.to_vec(), ..self.clone() })
    }

    /// Rows `first..first + count` of the first dimension.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn rows(&self, first: usize, count: usize) -> Result<Self> {
        let [all, rest @ ..] = &self.dims[..] else {
            return Err(DeviceError::Tensor("a tensor without dimensions has no rows".to_owned()));
        };
        if first.checked_add(count).is_none_or(|end| end > *all) {
            return Err(DeviceError::Tensor(format!("rows {first} to {first} + {count} of {all}")));
        }
        let row = rest.iter().product::<usize>() * self.dtype.size_in_bytes();
        let dims = std::iter::once(count).chain(rest.iter().copied()).collect();
        Ok(Self { dims, offset: self.offset + first * row, ..self.clone() })
    }

    /// Its numbers in memory of the host. Waits for the device.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_cpu(&self) -> Result<candle_core::Tensor> {
        let mut bytes = vec![0; self.num_bytes()];
        // SAFETY: a tensor is as long as it says.
        unsafe { self.gpu().driver().read(self.address(), &mut bytes)? };
        Ok(candle_core::Tensor::from_raw_buffer(&bytes, self.dtype, &self.dims, &Device::Cpu)?)
    }
}

impl std::fmt::Debug for GpuTensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GpuTensor({:?} {:?})", self.dims, self.dtype)
    }
}

/// The numbers of a tensor, little-endian.
fn bytes_of(tensor: &candle_core::Tensor) -> Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F32 => flat.to_vec1::<f32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::U32 => flat.to_vec1::<u32>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::U8 => flat.to_vec1::<u8>()?,
        DType::BF16 => flat.to_vec1::<half::bf16>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => flat.to_vec1::<half::f16>()?.iter().flat_map(|x| x.to_le_bytes()).collect(),
        dtype => return Err(DeviceError::Tensor(format!("{dtype:?} is not copied to devices"))),
    })
}

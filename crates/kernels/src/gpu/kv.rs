//! One layer's cache of keys and values in device memory.
//!
//! Keys, and apart from them values, lie as `[block][kv_head][position in block][head_dim]`, so that the positions of a block
//! are one run of memory for a head. In a cache of eight bits the f32 scales follow as `[block][kv_head][position in block]`.

use vlinders_device::{DeviceBuffer, Gpu};

use crate::error::{KernelError, Result};
use crate::kv::{KvDtype, KvShape, OP};

/// Kernels copy so many bytes at once.
const PIECE: usize = 16;

/// Keys and values of one layer for all sequences: `num_blocks` blocks of `block_size` positions.
#[derive(Debug)]
pub struct GpuKvLayer {
    keys: DeviceBuffer,
    values: DeviceBuffer,
    shape: KvShape,
}

// === impl GpuKvLayer ===

impl GpuKvLayer {
    /// A cache of zeros.
    ///
    /// # Errors
    /// A size of zero, heads that kernels can not read, or no memory.
    pub fn new(
        gpu: &Gpu,
        dtype: KvDtype,
        num_blocks: usize,
        block_size: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<Self> {
        let shape = KvShape { dtype, num_blocks, block_size, kv_heads, head_dim };
        let bytes = bytes_of_one(&shape)?;
        let (keys, values) = (gpu.allocate(bytes)?, gpu.allocate(bytes)?);
        gpu.fill(&keys, 0)?;
        gpu.fill(&values, 0)?;
        Ok(Self { keys, values, shape })
    }

    /// Bytes that one block takes, keys and values together, scales included: what a memory plan needs.
    ///
    /// # Errors
    /// A size of zero, or heads that kernels can not read.
    pub fn bytes_per_block(
        dtype: KvDtype,
        block_size: usize,
        kv_heads: usize,
        head_dim: usize,
    ) -> Result<usize> {
        Ok(2 * bytes_of_one(&KvShape { dtype, num_blocks: 1, block_size, kv_heads, head_dim })?)
    }

    /// The stored dtype.
    #[must_use]
    pub fn dtype(&self) -> KvDtype {
        self.shape.dtype
    }

    /// Bytes held, keys and values together.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        self.keys.num_bytes() + self.values.num_bytes()
    }

    /// The device.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        self.keys.gpu()
    }

    pub(crate) fn shape(&self) -> KvShape {
        self.shape
    }

    /// Where keys and values begin.
    pub(crate) fn numbers(&self) -> [u64; 2] {
        [self.keys.address(), self.values.address()]
    }

    /// Where their scales begin, 0 when there are none.
    pub(crate) fn scales(&self) -> [u64; 2] {
        if self.shape.dtype.has_scales() {
            let offset = (rows_of(&self.shape) * self.shape.head_dim * self.shape.dtype.width()) as u64;
            self.numbers().map(|address| address + offset)
        } else {
            [0, 0]
        }
    }
}

/// Heads of all positions. The sizes were checked.
fn rows_of(shape: &KvShape) -> usize {
    shape.num_blocks * shape.kv_heads * shape.block_size
}

/// Bytes of the keys alone.
fn bytes_of_one(shape: &KvShape) -> Result<usize> {
    let KvShape { dtype, num_blocks, block_size, kv_heads, head_dim } = *shape;
    shape.check()?;
    let row = head_dim * dtype.width();
    if head_dim > 256 || head_dim % 8 != 0 || row % PIECE != 0 {
        let wanted = format!("multiples of {} up to 256", 8usize.max(PIECE / dtype.width()));
        let problem = format!("a GPU reads heads of {wanted} numbers in {dtype}, not of {head_dim}");
        return Err(KernelError::shape(OP, problem));
    }
    let rows = [num_blocks, kv_heads, block_size].iter().try_fold(1usize, |all, n| all.checked_mul(*n));
    // Kernels count rows in 32 bits.
    let rows = rows.filter(|rows| *rows < u32::MAX as usize);
    let scale = if dtype.has_scales() { size_of::<f32>() } else { 0 };
    let bytes = rows.and_then(|rows| rows.checked_mul(row + scale));
    bytes.ok_or(KernelError::Memory { bytes: usize::MAX })
}

#[cfg(test)]
#[cfg(feature = "emulation")]
pub(crate) mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::gpu::testing::device;

    /// All keys and all values as numbers, `[block, kv_head, position in block, head_dim]`.
    pub(crate) fn cached_on_gpu(layer: &GpuKvLayer) -> [Vec<f32>; 2] {
        let KvShape { dtype, head_dim, .. } = layer.shape();
        [&layer.keys, &layer.values].map(|of| {
            let mut bytes = vec![0; of.num_bytes()];
            of.gpu().read(of, &mut bytes).unwrap();
            let (numbers, scales) = bytes.split_at(rows_of(&layer.shape()) * head_dim * dtype.width());
            let number = numbers.chunks_exact(dtype.width());
            match dtype {
                KvDtype::F32 => number.map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                KvDtype::F16 => number.map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
                KvDtype::BF16 => {
                    number.map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
                }
                KvDtype::Int8 => {
                    let scale = |row: usize| f32::from_le_bytes(scales[4 * row..][..4].try_into().unwrap());
                    let codes = number.enumerate();
                    codes.map(|(i, b)| f32::from(b[0].cast_signed()) * scale(i / head_dim)).collect()
                }
            }
        })
    }

    /// Which head of [`cached_on_gpu`] lies at a slot.
    pub(crate) fn row_at(layer: &GpuKvLayer, slot: usize, head: usize) -> usize {
        let KvShape { block_size, kv_heads, .. } = layer.shape();
        (slot / block_size * kv_heads + head) * block_size + slot % block_size
    }

    /// Make everything in the cache a NaN: what no one wrote must not matter.
    pub(crate) fn poison(layer: &GpuKvLayer) {
        for buffer in [&layer.keys, &layer.values] {
            layer.gpu().fill(buffer, 0xff).unwrap();
        }
    }

    #[test]
    fn a_layer_is_zeros_and_as_large_as_planned() {
        let gpu = device();
        for (dtype, width) in [(KvDtype::F32, 4), (KvDtype::F16, 2), (KvDtype::BF16, 2), (KvDtype::Int8, 1)] {
            let layer = GpuKvLayer::new(&gpu, dtype, 3, 5, 2, 48).unwrap();
            let scale = if dtype == KvDtype::Int8 { 4 } else { 0 };
            assert_eq!(layer.num_bytes(), 2 * 3 * 5 * 2 * (48 * width + scale));
            let per_block = GpuKvLayer::bytes_per_block(dtype, 5, 2, 48).unwrap();
            assert_eq!(layer.num_bytes(), 3 * per_block);
            assert!(cached_on_gpu(&layer).iter().flatten().all(|v| *v == 0.0));
        }
    }

    #[test]
    fn heads_that_kernels_can_not_read_are_refused() {
        let gpu = device();
        for (dtype, d) in [(KvDtype::BF16, 12), (KvDtype::BF16, 264), (KvDtype::Int8, 72), (KvDtype::F32, 0)]
        {
            assert!(GpuKvLayer::new(&gpu, dtype, 1, 16, 1, d).is_err(), "{dtype} {d}");
        }
        assert!(GpuKvLayer::bytes_per_block(KvDtype::BF16, 1 << 40, 2, 128).is_err(), "too many rows");
    }
}

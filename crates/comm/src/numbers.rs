//! Numbers of tensors where they lie, and sums of them in the order of the ranks.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};

use crate::CommError;

/// Numbers that are added at once for all ranks: they stay in the first-level cache.
const STRIP: usize = 2048;
/// Numbers that are worth a thread.
const CHUNK: usize = 16 * 1024;

/// Runs a body for each number below the first argument, on the threads that a rank computes with; an error when the body
/// panicked.
pub type ParallelFor = fn(usize, &(dyn Fn(usize) + Sync)) -> Result<(), String>;

/// On the calling thread alone.
pub(crate) fn serially(count: usize, body: &(dyn Fn(usize) + Sync)) -> Result<(), String> {
    (0..count).for_each(body);
    Ok(())
}

/// Where sums go; chunks write to parts of their own.
struct Sums(*mut f32);

// SAFETY: no two chunks write to the same number.
unsafe impl Sync for Sums {}

// === impl Sums ===

impl Sums {
    /// From the number `start` on.
    ///
    /// # Safety
    /// There is room for so many numbers.
    unsafe fn at(&self, start: usize) -> *mut f32 {
        // SAFETY: as the caller says.
        unsafe { self.0.add(start) }
    }
}

/// As [`add_up`], on many threads.
///
/// # Safety
/// As there.
pub(crate) unsafe fn add_up_on(
    parallel: ParallelFor,
    parts: &[&[f32]],
    out: *mut f32,
) -> Result<(), CommError> {
    let len = parts.first().map_or(0, |part| part.len());
    let sums = Sums(out);
    let chunk = |chunk: usize| {
        let (start, end) = (chunk * CHUNK, len.min((chunk + 1) * CHUNK));
        let parts: Vec<&[f32]> = parts.iter().map(|part| &part[start..end]).collect();
        // SAFETY: the chunk lies in what `out` has room for, and is this one's alone.
        unsafe { add_up(&parts, sums.at(start)) };
    };
    parallel(len.div_ceil(CHUNK), &chunk).map_err(CommError::Tensor)
}

/// A contiguous f32 tensor, held so that its numbers can be read.
pub(crate) struct Held<'a, G> {
    storage: G,
    layout: &'a Layout,
}

/// Hold `x` so that its numbers can be read.
pub(crate) fn hold(x: &Tensor) -> Held<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = x.storage_and_layout();
    Held { storage, layout }
}

// === impl Held ===

impl<G: Deref<Target = Storage>> Held<'_, G> {
    /// Its numbers.
    pub(crate) fn floats(&self) -> Result<&[f32], CommError> {
        let Storage::Cpu(CpuStorage::F32(numbers)) = &*self.storage else {
            return Err(CommError::Tensor("only f32 on the CPU can be added up".to_owned()));
        };
        match self.layout.contiguous_offsets() {
            Some((start, end)) => Ok(&numbers[start..end]),
            None => Err(CommError::Tensor("a tensor that is added up must be contiguous".to_owned())),
        }
    }

    /// Its bytes, as they lie in memory.
    pub(crate) fn bytes(&self) -> Result<&[u8], CommError> {
        let Some((start, end)) = self.layout.contiguous_offsets() else {
            return Err(CommError::Tensor("a tensor that is sent must be contiguous".to_owned()));
        };
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => Ok(bytes_of(&numbers[start..end])),
            Storage::Cpu(CpuStorage::U32(numbers)) => Ok(bytes_of(&numbers[start..end])),
            Storage::Cpu(CpuStorage::U8(numbers)) => Ok(&numbers[start..end]),
            _ => Err(not_sent()),
        }
    }
}

/// A tensor on its way in: its bytes are written where its numbers will stay.
pub(crate) enum Arriving {
    F32(Vec<f32>),
    U32(Vec<u32>),
    U8(Vec<u8>),
}

// === impl Arriving ===

impl Arriving {
    /// Room for `len` numbers.
    pub(crate) fn new(dtype: DType, len: usize) -> Result<Self, CommError> {
        match dtype {
            DType::F32 => Ok(Self::F32(vec![0.0; len])),
            DType::U32 => Ok(Self::U32(vec![0; len])),
            DType::U8 => Ok(Self::U8(vec![0; len])),
            _ => Err(not_sent()),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::F32(numbers) => bytes_of_mut(numbers),
            Self::U32(numbers) => bytes_of_mut(numbers),
            Self::U8(numbers) => numbers,
        }
    }

    /// The tensor, once all of it is there.
    pub(crate) fn into_tensor(self, shape: &[usize], device: &Device) -> Result<Tensor, CommError> {
        Ok(match self {
            Self::F32(numbers) => Tensor::from_vec(numbers, shape, device)?,
            Self::U32(numbers) => Tensor::from_vec(numbers, shape, device)?,
            Self::U8(numbers) => Tensor::from_vec(numbers, shape, device)?,
        })
    }
}

fn not_sent() -> CommError {
    CommError::Tensor("only f32, u32 and u8 on the CPU can be sent".to_owned())
}

/// Numbers of which every pattern of bits is one.
pub(crate) trait Plain: Copy {}

impl Plain for f32 {}
impl Plain for u32 {}

/// Numbers as the bytes that they are. Ranks are little-endian, all of them.
pub(crate) fn bytes_of<T: Plain>(numbers: &[T]) -> &[u8] {
    // SAFETY: the slice is as many bytes, all of them written, and bytes have no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// The same, to be written.
pub(crate) fn bytes_of_mut<T: Plain>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and whatever is written to them, they are numbers.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

#[cfg(target_endian = "big")]
compile_error!("ranks send numbers as little-endian bytes");

/// Write the sums of `parts`, added in their order, to `out`.
///
/// # Safety
/// `out` must be writable for as many numbers as each part has; all have the same number.
pub(crate) unsafe fn add_up(parts: &[&[f32]], out: *mut f32) {
    let Some((first, others)) = parts.split_first() else { return };
    for start in (0..first.len()).step_by(STRIP) {
        let end = first.len().min(start + STRIP);
        // SAFETY: the strip lies in the numbers that `out` has room for, and no part overlaps fresh room.
        let sums = unsafe {
            out.add(start).copy_from_nonoverlapping(first[start..end].as_ptr(), end - start);
            std::slice::from_raw_parts_mut(out.add(start), end - start)
        };
        for other in others {
            sums.iter_mut().zip(&other[start..end]).for_each(|(sum, number)| *sum += number);
        }
    }
}

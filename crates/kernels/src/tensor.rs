//! The edge between tensors and kernels: what a kernel may assume of its arguments is checked here, once.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Layout, Storage, Tensor};

use crate::error::{KernelError, Result};

/// `tensor` as contiguous f32.
///
/// # Errors
/// [`KernelError::Dtype`] for any other dtype.
pub(crate) fn activations(op: &'static str, what: &'static str, tensor: &Tensor) -> Result<Tensor> {
    if tensor.dtype() != DType::F32 {
        return Err(KernelError::Dtype { op, what, found: tensor.dtype(), wanted: &[DType::F32] });
    }
    Ok(tensor.contiguous()?)
}

/// The numbers of an argument that went through [`activations`].
///
/// # Errors
/// An argument that did not.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (from, to) = layout
        .contiguous_offsets()
        .ok_or_else(|| candle_core::Error::msg("a kernel needs contiguous arguments"))?;
    match storage {
        CpuStorage::F32(values) => {
            values.get(from..to).ok_or_else(|| candle_core::Error::msg("a tensor is larger than its storage"))
        }
        _ => Err(candle_core::Error::msg("a kernel needs f32 arguments")),
    }
}

/// The numbers of a tensor outside of candle's operations, for as long as this is held.
pub(crate) struct Reading<'a, S> {
    storage: S,
    layout: &'a Layout,
}

/// Read an argument that went through [`activations`].
pub(crate) fn read(tensor: &Tensor) -> Reading<'_, impl Deref<Target = Storage>> {
    let (storage, layout) = tensor.storage_and_layout();
    Reading { storage, layout }
}

// === impl Reading ===

impl<S: Deref<Target = Storage>> Reading<'_, S> {
    /// # Errors
    /// As [`floats`], and for a tensor of another device.
    pub(crate) fn floats(&self) -> candle_core::Result<&[f32]> {
        match &*self.storage {
            Storage::Cpu(storage) => floats(storage, self.layout),
            _ => Err(candle_core::Error::msg("a kernel needs arguments on the cpu")),
        }
    }
}

/// A pointer that threads of one region may write through, each to places of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: whoever dereferences says why the places are disjoint.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

// === impl Shared ===

impl<T> Shared<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    pub(crate) fn get(self) -> *mut T {
        self.0
    }
}

/// A vector of `len` numbers that `fill` writes, all of them, without zeroing them first.
///
/// # Errors
/// Those of `fill`; [`KernelError::Memory`].
///
/// # Safety
/// When `fill` returns `Ok`, it has written all `len` elements behind the pointer it was given.
pub(crate) unsafe fn filled(len: usize, fill: impl FnOnce(*mut f32) -> Result<()>) -> Result<Vec<f32>> {
    let mut values: Vec<f32> = Vec::new();
    values.try_reserve_exact(len).map_err(|_| KernelError::Memory { bytes: len.saturating_mul(4) })?;
    fill(values.as_mut_ptr())?;
    // SAFETY: the capacity is there, and the caller promises that `fill` wrote every element.
    unsafe { values.set_len(len) };
    Ok(values)
}

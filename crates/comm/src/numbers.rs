//! Numbers of tensors where they lie, and sums of them in the order of the ranks.

use std::ops::Deref;

use candle_core::{CpuStorage, Layout, Storage, Tensor};

use crate::CommError;

/// Numbers that are added at once for all ranks: they stay in the first-level cache.
const STRIP: usize = 2048;

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
}

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

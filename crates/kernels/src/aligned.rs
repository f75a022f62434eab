//! Memory for weights and KV caches: zeroed, aligned to a cache line, on huge pages where the system has them.
//!
//! A matrix of a gigabyte touches a quarter of a million small pages; with 2 MiB pages the translation cache
//! covers it, which is worth several per cent of decode speed.

use std::ptr::NonNull;

use crate::error::{KernelError, Result};

/// Bytes every buffer is aligned to.
pub(crate) const ALIGNMENT: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// An owned run of zero-initialised bytes.
pub(crate) struct AlignedBuf {
    start: NonNull<u8>,
    len: usize,
    memory: Memory,
}

enum Memory {
    Empty,
    Heap(std::alloc::Layout),
    #[cfg(unix)]
    Map {
        base: NonNull<u8>,
        bytes: usize,
    },
}

// SAFETY: the buffer owns plain bytes that no one else points to.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared access only reads; writing needs `&mut` or goes through a type that says how it is guarded.
unsafe impl Sync for AlignedBuf {}

// === impl AlignedBuf ===

impl AlignedBuf {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// [`KernelError::Memory`] when the system has none left.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        if len == 0 {
            return Ok(Self { start: NonNull::dangling(), len, memory: Memory::Empty });
        }
        #[cfg(unix)]
        if len >= HUGE_PAGE {
            return Self::map(len);
        }
        let layout = std::alloc::Layout::from_size_align(len, ALIGNMENT)
            .map_err(|_| KernelError::Memory { bytes: len })?;
        // SAFETY: `layout` has a size above zero.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start).ok_or(KernelError::Memory { bytes: len })?;
        Ok(Self { start, len, memory: Memory::Heap(layout) })
    }

    /// Fresh pages from the system, untouched; they are placed when they are first written (see [`mod@crate::numa`]).
    #[cfg(unix)]
    fn map(len: usize) -> Result<Self> {
        let out_of_memory = || KernelError::Memory { bytes: len };
        let whole = len.checked_next_multiple_of(HUGE_PAGE).ok_or_else(out_of_memory)?;
        let bytes = whole.checked_add(HUGE_PAGE).ok_or_else(out_of_memory)?;
        // SAFETY: an anonymous private map at an address of the system's choice has no precondition.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(out_of_memory());
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(out_of_memory)?;
        let skip = base.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: the map is one huge page longer than `whole`, and `skip` is smaller than a huge page.
        let start = unsafe { base.add(skip) };
        #[cfg(target_os = "linux")]
        // SAFETY: the range lies inside the map made above. It is advice: failure changes nothing but speed.
        unsafe {
            libc::madvise(start.as_ptr().cast(), whole, libc::MADV_HUGEPAGE);
        }
        crate::numa::interleave(start.as_ptr(), whole);
        Ok(Self { start, len, memory: Memory::Map { base, bytes } })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` bytes are owned, and were zeroed when they were taken.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        match self.memory {
            Memory::Empty => {}
            // SAFETY: `start` came from the global allocator with this very layout.
            Memory::Heap(layout) => unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) },
            #[cfg(unix)]
            // SAFETY: `base` and `bytes` are what `mmap` returned, and nothing points into it any more.
            Memory::Map { base, bytes } => unsafe {
                libc::munmap(base.as_ptr().cast(), bytes);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zeroed_and_aligned_at_every_size() {
        for len in [0, 1, 63, 64, 4097, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 5] {
            let mut buf = AlignedBuf::zeroed(len).unwrap();
            assert_eq!(buf.len(), len);
            if len == 0 {
                continue;
            }
            assert_eq!(buf.as_ptr() as usize % ALIGNMENT, 0);
            // SAFETY: the buffer holds `len` initialised bytes, borrowed mutably.
            let bytes = unsafe { std::slice::from_raw_parts_mut(buf.as_mut_ptr(), len) };
            assert!(bytes.iter().all(|b| *b == 0));
            bytes.fill(7);
            assert_eq!(bytes[len - 1], 7);
        }
    }

    #[test]
    fn absurd_size_is_an_error() {
        assert!(matches!(AlignedBuf::zeroed(usize::MAX - 10), Err(KernelError::Memory { .. })));
    }
}

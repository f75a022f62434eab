//! How a kernel is started.

/// The parameters of a kernel: one struct, the same in Rust and in C++.
///
/// # Safety
/// The type is `#[repr(C)]`, has no padding, and is declared in the same way where the kernel is. Addresses in it are
/// `u64`, and the kernel gets along with them.
pub unsafe trait Params: Copy + 'static {}

/// Blocks of a launch, threads of a block, and shared memory of a block beside what the kernel declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y and z.
    pub blocks: [u32; 3],
    /// Threads in x, y and z.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
}

// === impl Grid ===

impl Grid {
    /// A row of blocks without dynamic shared memory.
    #[must_use]
    pub fn of(blocks: usize, threads: u32) -> Self {
        Self::of_two(blocks, 1, threads)
    }

    /// `x` by `y` blocks without dynamic shared memory.
    #[must_use]
    pub fn of_two(x: usize, y: usize, threads: u32) -> Self {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { blocks: [count(x), count(y), 1], threads: [threads, 1, 1], shared_bytes: 0 }
    }

    /// The same with `bytes` of dynamic shared memory.
    #[must_use]
    pub fn with_shared(self, bytes: usize) -> Self {
        Self { shared_bytes: u32::try_from(bytes).unwrap_or(u32::MAX), ..self }
    }

    /// Whether it has no blocks, so that there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }
}

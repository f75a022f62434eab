//! How a kernel is started.

/// The parameters of a kernel: one struct, the same in Rust and in C++.
///
/// # Safety
/// The type is `#[repr(C)]`, has no padding, and is declared in the same way where the kernel is. Addresses in it are
/// `u64`, and the kernel gets along with them.
pub unsafe trait Params: Copy + 'static {}

/// Blocks of a launch, threads of a block, shared memory of a block beside what the kernel declares, and blocks of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Blocks in x, y and z.
    pub blocks: [u32; 3],
    /// Threads in x, y and z.
    pub threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// Blocks of a cluster, which run at once and are neighbours in x.
    pub cluster: u32,
}

/// The most blocks of a cluster that every device with clusters can run.
const MAX_CLUSTER: u32 = 8;

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
        Self { blocks: [count(x), count(y), 1], threads: [threads, 1, 1], shared_bytes: 0, cluster: 1 }
    }

    /// The same with `bytes` of dynamic shared memory.
    #[must_use]
    pub fn with_shared(self, bytes: usize) -> Self {
        Self { shared_bytes: u32::try_from(bytes).unwrap_or(u32::MAX), ..self }
    }

    /// The same with blocks in clusters of `n`, of which there are whole ones.
    #[must_use]
    pub fn in_clusters(self, n: u32) -> Self {
        Self { cluster: n, ..self }
    }

    /// What is wrong with its clusters.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { blocks: [x, ..], cluster, .. } = *self;
        if !(1..=MAX_CLUSTER).contains(&cluster) {
            return Err(format!("a cluster has 1 to {MAX_CLUSTER} blocks, not {cluster}"));
        }
        if !x.is_multiple_of(cluster) {
            return Err(format!("{x} blocks in x are not whole clusters of {cluster}"));
        }
        Ok(())
    }

    /// Whether it has no blocks, so that there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.contains(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_whole_clusters() {
        let grid = Grid::of_two(12, 5, 32);
        for cluster in [1, 2, 3, 4, 6] {
            assert_eq!(grid.in_clusters(cluster).check(), Ok(()), "{cluster}");
        }
        for (cluster, problem) in [
            (0, "a cluster has 1 to 8 blocks, not 0"),
            (5, "12 blocks in x are not whole clusters of 5"),
            (12, "a cluster has 1 to 8 blocks, not 12"),
        ] {
            assert_eq!(grid.in_clusters(cluster).check(), Err(problem.to_owned()));
        }
    }
}

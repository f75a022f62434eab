//! Tests of clusters: that blocks copy to each other and wait for each other, and that the emulation finds mistakes.

use vlinders_device::{DeviceError, Gpu, Grid, Params};

use super::testing::devices;
use super::{WARPGROUPS, tests_run_on_cuda};

const SLOTS: usize = 3;

/// As `cuda/tests/cluster_copies.cu` numbers them.
#[derive(Debug, Clone, Copy)]
enum Mistake {
    None,
    NoReleaseAwaited,
    NoArrivalAwaited,
    CopyLeftOut,
    ReleaseLeftOut,
    NotShown,
    NotMetAtFirst,
    NotMetAtLast,
    ThreadStaysAway,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ClusterCopies {
    x: u64,
    y: u64,
    rows: u32,
    part: u32,
    alone: u32,
    mistake: u32,
}

// SAFETY: repr(C), no padding, declared alike in `cuda/tests/cluster_copies.cu`.
unsafe impl Params for ClusterCopies {}

#[derive(Debug, Clone, Copy)]
struct Case {
    /// Blocks of a cluster.
    size: usize,
    threads: u32,
    rows: usize,
    /// Bytes of a part.
    part: usize,
    /// Whether a block copies its part for itself by a copy of its own.
    alone: bool,
    mistake: Mistake,
}

impl Case {
    /// Two by two clusters that see something else, or an error.
    fn run(self, gpu: &Gpu) -> Result<(), DeviceError> {
        let row_bytes = self.size * self.part;
        let of_cluster = self.rows * row_bytes;
        let x: Vec<u8> = (0..4 * of_cluster).map(|i| (i * 31 + i / 16 * 7 + i / 256) as u8).collect();
        let (on_gpu, y) = (gpu.allocate(x.len())?, gpu.allocate(x.len() * self.size)?);
        gpu.write(&on_gpu, 0, &x)?;
        let params = ClusterCopies {
            x: on_gpu.address(),
            y: y.address(),
            rows: self.rows as u32,
            part: self.part as u32,
            alone: self.alone.into(),
            mistake: self.mistake as u32,
        };
        let grid = Grid::of_two(2 * self.size, 2, self.threads)
            .with_shared(SLOTS * (row_bytes + 16))
            .in_clusters(self.size as u32);
        // SAFETY: both buffers are as long as the kernel takes them to be.
        unsafe { gpu.launch("cluster_copies", grid, &params)? };
        let mut seen = vec![0; y.num_bytes()];
        gpu.read(&y, &mut seen)?;
        for (block, seen) in seen.chunks(of_cluster).enumerate() {
            let cluster = block / self.size;
            let differs = seen.iter().zip(&x[cluster * of_cluster..]).position(|(seen, x)| seen != x);
            if let Some(i) = differs {
                let (row, at) = (i / row_bytes, i % row_bytes);
                return Err(DeviceError::Tensor(format!("block {block} sees another row {row} at {at}")));
            }
        }
        Ok(())
    }
}

#[test]
fn blocks_of_a_cluster_copy_to_each_other() {
    for gpu in devices() {
        if gpu.properties().capability != WARPGROUPS {
            return;
        }
        for (size, threads, rows, part) in [
            (1, 64, 5, 48),
            (2, 128, 8, 1040),
            (2, 384, 1, 16),
            (4, 384, 10, 208),
            (8, 96, 7, 64),
            (8, 64, 3, 16),
        ] {
            for alone in [false, true] {
                let case = Case { size, threads, rows, part, alone, mistake: Mistake::None };
                case.run(&gpu).unwrap_or_else(|error| panic!("{case:?}: {error}"));
            }
        }
    }
}

#[test]
fn clusters_that_are_not_whole_are_refused() {
    for gpu in devices() {
        let params = ClusterCopies { x: 0, y: 0, rows: 0, part: 16, alone: 0, mistake: 0 };
        for (cluster, problem) in
            [(3, "4 blocks in x are not whole clusters of 3"), (16, "has 1 to 8 blocks")]
        {
            let grid = Grid::of(4, 64).in_clusters(cluster);
            // SAFETY: it reads and writes nothing.
            let error = unsafe { gpu.launch("cluster_copies", grid, &params) }.unwrap_err().to_string();
            assert!(error.contains("cluster_copies") && error.contains(problem), "{error}");
        }
    }
}

#[test]
fn mistakes_with_clusters_are_found() {
    if tests_run_on_cuda().unwrap() {
        return;
    }
    for (mistake, rows, said) in [
        (Mistake::NoReleaseAwaited, 11, "more threads arrive than a counter expects"),
        // Copies that come as late as can be find that blocks have ended.
        (Mistake::NoArrivalAwaited, 3, "sees another row|still under way|has ended is written"),
        (Mistake::CopyLeftOut, 11, "for arrivals"),
        (Mistake::ReleaseLeftOut, 11, "for arrivals"),
        (Mistake::NotShown, 11, "were not shown to the cluster"),
        (Mistake::NotMetAtFirst, 11, "blocks have not met"),
        (Mistake::NotMetAtLast, 11, "shared memory of a block that has ended is written"),
        (Mistake::ThreadStaysAway, 11, "127 at one of the cluster"),
    ] {
        let case = Case { size: 4, threads: 128, rows, part: 64, alone: true, mistake };
        let found: Vec<_> =
            devices().filter_map(|gpu| case.run(&gpu).err()).map(|error| error.to_string()).collect();
        for error in &found {
            assert!(said.split('|').any(|said| error.contains(said)), "{mistake:?}: {error}");
        }
        // Where nothing but luck keeps blocks from ending early, not every order shows it.
        let at_least = if matches!(mistake, Mistake::NotMetAtLast) { 1 } else { devices().count() };
        assert!(found.len() >= at_least, "{mistake:?}: {found:?}");
    }
}

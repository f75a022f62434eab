//! Kernels of warpgroups whose blocks walk: what a block has, which of them is chosen, and how many are started.

use std::sync::atomic::{AtomicBool, Ordering};

use vlinders_device::Grid;

use super::variant::{TOKEN_BYTES, blocks};
use crate::gpu::GpuMatrix;

/// A kernel for activations of either kind, by rows of the matrix and tokens that a block has at a time. Of pairs they are those of two
/// blocks that fetch tokens for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wide {
    /// 64 by 64.
    Of64x64,
    /// 128 by 64.
    Of128x64,
    /// 128 by 128.
    Of128x128,
    /// 128 by 192.
    Of128x192,
    /// 256 by 128.
    Pair256x128,
    /// 256 by 192.
    Pair256x192,
}

/// What there is to know of one.
struct Figures {
    rows: usize,
    tokens: usize,
    /// Blocks of a cluster, which have its rows together.
    cluster: usize,
    /// Steps that there is room for, as in cuda/linear_wide.cu and cuda/linear_w8a8.cu.
    stages: usize,
    /// What a step of all blocks takes, in units of ten nanoseconds: measured on an H100 from 1 to 8,192 tokens, but for pairs, of which it
    /// is reckoned.
    step: usize,
}

/// Kernels of warpgroups count arrivals and releases of steps, beginnings and meetings of groups. Their shared memory begins at a
/// multiple of the second; an emulation has it end at a page.
pub(super) const COUNTER_BYTES: usize = 256;
pub(super) const WIDE_ALIGNED: usize = 1024;
/// Rows of a warpgroup, and threads of one.
const GROUP_ROWS: usize = 64;
const GROUP_THREADS: usize = 128;
/// Outputs of a warpgroup that are stored together: so many tokens, with sixteen bytes between them.
const STORE_BYTES: usize = 64 * (GROUP_ROWS * 2 + 16);
/// Whether pairs are chosen: not before a device has measured them.
static USES_PAIRS: AtomicBool = AtomicBool::new(false);

/// Whether products with many tokens may be done by pairs of blocks that fetch tokens for each other, which changes no bit; to
/// measure what that is worth.
pub fn use_pairs(uses: bool) {
    USES_PAIRS.store(uses, Ordering::Relaxed);
}

/// What `$names` makes of the prefix of a name and what follows it for a [`Wide`].
macro_rules! by_shape {
    ($names:ident, $prefix:literal, $wide:expr) => {
        match $wide {
            Wide::Of64x64 => $names!($prefix, "64x64"),
            Wide::Of128x64 => $names!($prefix, "128x64"),
            Wide::Of128x128 => $names!($prefix, "128x128"),
            Wide::Of128x192 => $names!($prefix, "128x192"),
            Wide::Pair256x128 => $names!($prefix, "256x128"),
            Wide::Pair256x192 => $names!($prefix, "256x192"),
        }
    };
}

pub(super) use by_shape;

// === impl Wide ===

impl Wide {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Of64x64,
        Self::Of128x64,
        Self::Of128x128,
        Self::Of128x192,
        Self::Pair256x128,
        Self::Pair256x192,
    ];

    const fn figures(self) -> Figures {
        let (rows, tokens, cluster, stages, step) = match self {
            Self::Of64x64 => (64, 64, 1, 12, 22),
            Self::Of128x64 => (128, 64, 1, 8, 31),
            Self::Of128x128 => (128, 128, 1, 6, 46),
            Self::Of128x192 => (128, 192, 1, 5, 66),
            Self::Pair256x128 => (256, 128, 2, 6, 42),
            Self::Pair256x192 => (256, 192, 2, 5, 58),
        };
        Figures { rows, tokens, cluster, stages, step }
    }

    /// The fastest one.
    pub(super) fn choose(tokens: usize, w: &GpuMatrix) -> Self {
        let pairs = USES_PAIRS.load(Ordering::Relaxed);
        let may_be_chosen = Self::ALL.into_iter().filter(|wide| pairs || wide.figures().cluster == 1);
        may_be_chosen.min_by_key(|wide| wide.cost(tokens, w)).unwrap_or(Self::Of64x64)
    }

    /// What all steps take, in units that are the same for all kernels.
    fn cost(self, tokens: usize, w: &GpuMatrix) -> usize {
        self.units(tokens, w).div_ceil(self.at_once(w)) * w.steps() * self.figures().step
    }

    /// Rows and tokens.
    pub(super) fn shape(self) -> (usize, usize) {
        let Figures { rows, tokens, .. } = self.figures();
        (rows, tokens)
    }

    /// What blocks, or clusters, walk over.
    pub(super) fn units(self, tokens: usize, w: &GpuMatrix) -> usize {
        blocks(self.shape(), tokens, w)
    }

    /// How many blocks, or clusters, a device has at once: a multiprocessor has a block.
    fn at_once(self, w: &GpuMatrix) -> usize {
        (w.gpu().properties().multiprocessors as usize / self.figures().cluster).max(1)
    }

    /// For a matrix of which a step has so many bytes of each row.
    pub(super) fn grid(self, tokens: usize, w: &GpuMatrix, step_bytes: usize) -> Grid {
        let Figures { rows, tokens: of_block, cluster, stages, .. } = self.figures();
        let blocks = self.units(tokens, w).min(self.at_once(w)) * cluster;
        let groups = rows / cluster / GROUP_ROWS;
        // A warpgroup more than there are rows for.
        let threads = (groups + 1) * GROUP_THREADS;
        let stage = groups * GROUP_ROWS * step_bytes + of_block * TOKEN_BYTES;
        let bytes = stages * stage + groups * STORE_BYTES + COUNTER_BYTES;
        Grid::of(blocks, threads as u32)
            .in_clusters(cluster as u32)
            .with_shared(bytes.next_multiple_of(WIDE_ALIGNED))
    }
}

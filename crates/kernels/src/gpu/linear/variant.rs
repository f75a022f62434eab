//! Which kernel multiplies how many tokens, and how it is started.

use candle_core::DType;
use vlinders_device::Grid;

use crate::gpu::{GpuFormat, GpuMatrix};

/// Types of activations that tensor cores multiply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    Bf16,
    F16,
}

/// What a block has: rows of the matrix, and tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Variant {
    /// 16 by 8.
    Stream8,
    /// 16 by 16.
    Stream16,
    /// 32 by 32.
    Stream32,
    /// 32 by 64.
    Stream64,
    /// 64 by 64.
    Tile64,
    /// 128 by 128.
    Tile128,
}

const STREAM_THREADS: u32 = 256;
/// Warps of a block that streams: they take chunks in turn.
const WARPS: usize = 8;
/// Steps of a chunk.
const CHUNK: usize = 4;
/// Shared memory for sums of chunks, unless one for each warp takes more.
const SUM_BYTES: usize = 48 << 10;
/// Steps that a tile has in shared memory.
const STAGES: usize = 3;
/// Bytes of a step of a token.
const TOKEN_BYTES: usize = 128;

macro_rules! kernels {
    ($variant:literal) => {
        [
            [
                concat!("linear_", $variant, "_bf16_floats"),
                concat!("linear_", $variant, "_bf16_fp8"),
                concat!("linear_", $variant, "_bf16_q8"),
                concat!("linear_", $variant, "_bf16_q4"),
            ],
            [
                concat!("linear_", $variant, "_f16_floats"),
                concat!("linear_", $variant, "_f16_fp8"),
                concat!("linear_", $variant, "_f16_q8"),
                concat!("linear_", $variant, "_f16_q4"),
            ],
        ]
    };
}

// === impl Half ===

impl Half {
    pub(super) fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::BF16 => Some(Self::Bf16),
            DType::F16 => Some(Self::F16),
            _ => None,
        }
    }
}

// === impl Variant ===

impl Variant {
    /// The fastest one.
    pub(super) fn choose(tokens: usize, w: &GpuMatrix) -> Self {
        match tokens {
            0..=8 => Self::Stream8,
            9..=16 => Self::Stream16,
            17..=32 => Self::Stream32,
            33..=64 => Self::Stream64,
            _ => {
                // Large tiles read less, small ones keep more of the device busy.
                let tiles = tokens.div_ceil(128) * w.out_features().div_ceil(128);
                let enough = w.gpu().properties().multiprocessors as usize * 3 / 4;
                if tiles >= enough { Self::Tile128 } else { Self::Tile64 }
            }
        }
    }

    pub(super) fn kernel(self, half: Half, format: GpuFormat) -> &'static str {
        let kernels = match self {
            Self::Stream8 => kernels!("stream8"),
            Self::Stream16 => kernels!("stream16"),
            Self::Stream32 => kernels!("stream32"),
            Self::Stream64 => kernels!("stream64"),
            Self::Tile64 => kernels!("tile64"),
            Self::Tile128 => kernels!("tile128"),
        };
        let format = match format {
            GpuFormat::F32 | GpuFormat::F16 | GpuFormat::BF16 => 0,
            GpuFormat::Fp8 => 1,
            GpuFormat::Q8 => 2,
            GpuFormat::Q4 => 3,
        };
        kernels[half as usize][format]
    }

    /// Rows of the matrix and tokens of a block.
    fn shape(self) -> (usize, usize) {
        match self {
            Self::Stream8 => (16, 8),
            Self::Stream16 => (16, 16),
            Self::Stream32 => (32, 32),
            Self::Stream64 => (32, 64),
            Self::Tile64 => (64, 64),
            Self::Tile128 => (128, 128),
        }
    }

    /// Bytes of the sums of a block, which lie by token, each with room for four more.
    fn sum_bytes(self) -> usize {
        let (rows, tokens) = self.shape();
        (rows + 4) * tokens * size_of::<f32>()
    }

    /// Chunks whose sums are kept before they are added up: a multiple of the number of warps.
    pub(super) fn slots(self, steps: usize) -> usize {
        let room = SUM_BYTES / self.sum_bytes() / WARPS * WARPS;
        room.min(steps.div_ceil(CHUNK).next_multiple_of(WARPS)).max(WARPS)
    }

    pub(super) fn grid(self, n: usize, w: &GpuMatrix) -> Grid {
        let (rows, tokens) = self.shape();
        let row_blocks = w.out_features().div_ceil(rows);
        let threads = match self {
            Self::Tile64 => 128,
            Self::Tile128 => 256,
            _ => {
                let shared = self.slots(w.steps()) * self.sum_bytes();
                // One block has all tokens.
                return Grid::of(row_blocks * n.min(1), STREAM_THREADS).with_shared(shared);
            }
        };
        let scales = match w.format() {
            GpuFormat::Q8 | GpuFormat::Q4 => 2 * rows * 16,
            _ => 0,
        };
        let stages = STAGES * (rows * w.format().step_bytes() + tokens * TOKEN_BYTES) + scales;
        // Blocks with the same rows of the matrix follow each other.
        Grid::of_two(n.div_ceil(tokens), row_blocks, threads).with_shared(stages.max(self.sum_bytes()))
    }
}

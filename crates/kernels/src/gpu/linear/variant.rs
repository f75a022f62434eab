//! Which kernel multiplies how many tokens, and how it is started.

use candle_core::DType;
use vlinders_device::Grid;

use super::wide::by_shape;
use super::{W8A8, Wide};
use crate::gpu::format::TILE;
use crate::gpu::{GpuFormat, GpuMatrix, WARPGROUPS};

/// Types of activations that tensor cores multiply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Half {
    Bf16,
    F16,
}

/// A kernel, by what a block of it has: rows of the matrix, and tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// 16 by 8, in registers.
    Stream8,
    /// 32 by 8, in registers: for outputs with gates alone.
    Gated8,
    /// 16 by 16, in registers.
    Stream16,
    /// 32 by 32, in registers.
    Stream32,
    /// 64 by 64, through shared memory.
    Small64,
    /// 128 by 32, through shared memory.
    Tile32,
    /// 128 by 64, through shared memory.
    Tile64,
    /// 128 by 128, through shared memory. Not where blocks of weights have scales.
    Tile128,
    /// By warpgroups. Not where blocks of weights have scales.
    Wide(Wide),
    /// For matrices that round activations to eight bits, and for no others.
    W8A8(W8A8),
}

/// More tokens than this are worth arranging for warpgroups.
const FEW: usize = 32;

/// Warps of a block that streams: they take chunks in turn.
const WARPS: usize = 8;
/// Steps of a chunk.
const CHUNK: usize = 4;
/// Shared memory for sums of chunks, unless one for each warp takes more.
const SUM_BYTES: usize = 48 << 10;
/// Bytes of a step of a token.
pub(super) const TOKEN_BYTES: usize = 128;
/// By type of activations and [`kind`] of format.
macro_rules! kernels {
    ($($part:literal),+) => {
        [
            [
                concat!($($part),+, "_bf16_floats"),
                concat!($($part),+, "_bf16_fp8"),
                concat!($($part),+, "_bf16_q8"),
                concat!($($part),+, "_bf16_q4"),
            ],
            [
                concat!($($part),+, "_f16_floats"),
                concat!($($part),+, "_f16_fp8"),
                concat!($($part),+, "_f16_q8"),
                concat!($($part),+, "_f16_q4"),
            ],
        ]
    };
}

pub(super) use kernels;

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
    /// All of them, but those for gates alone.
    pub fn all() -> impl Iterator<Item = Self> {
        let narrow = [
            Self::Stream8,
            Self::Stream16,
            Self::Stream32,
            Self::Small64,
            Self::Tile32,
            Self::Tile64,
            Self::Tile128,
        ];
        narrow.into_iter().chain(Wide::ALL.map(Self::Wide)).chain(W8A8::all().map(Self::W8A8))
    }

    /// Whether it can multiply so many tokens with these weights, where they are.
    #[must_use]
    pub fn can(self, tokens: usize, w: &GpuMatrix) -> bool {
        let runs = !self.is_wide() || w.gpu().properties().capability == WARPGROUPS;
        let rounds = matches!(self, Self::W8A8(_)) == w.rounds_activations();
        runs && rounds && self.takes(w.format()) && (!self.streams() || tokens <= self.shape().1)
    }

    /// Whether one block has all tokens.
    fn streams(self) -> bool {
        match self {
            Self::W8A8(kernel) => kernel.streams(),
            _ => matches!(self, Self::Stream8 | Self::Gated8 | Self::Stream16 | Self::Stream32),
        }
    }

    /// Whether tokens must be arranged for it.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::Wide(_))
    }

    /// The fastest one. Blocks with more rows read activations less often, and those with more tokens weights, as long as there
    /// are enough of them to keep the device busy.
    pub(super) fn choose(tokens: usize, w: &GpuMatrix) -> Self {
        if w.rounds_activations() {
            return Self::W8A8(W8A8::choose(tokens, w));
        }
        if tokens <= FEW {
            return Self::choose_narrow(tokens, w);
        }
        Self::choose_wide(tokens, w).unwrap_or_else(|| Self::choose_narrow(tokens, w))
    }

    /// The fastest one by warpgroups, where there are any.
    fn choose_wide(tokens: usize, w: &GpuMatrix) -> Option<Self> {
        let wide = Self::Wide(Wide::choose(tokens, w));
        wide.can(tokens, w).then_some(wide)
    }

    /// The fastest one that applies gates, if there is one that is faster than two kernels.
    pub(super) fn choose_gated(tokens: usize, w: &GpuMatrix) -> Option<Self> {
        if !w.out_features().is_multiple_of(2 * TILE) {
            return None;
        }
        match Self::choose(tokens, w) {
            Self::Stream8 => Some(Self::Gated8),
            Self::W8A8(kernel) => Some(Self::W8A8(kernel)),
            // A kernel for gates alone takes longer than what tokens are arranged in.
            _ => Self::choose_wide(tokens, w),
        }
    }

    /// The fastest one of those that every device has.
    fn choose_narrow(tokens: usize, w: &GpuMatrix) -> Self {
        let enough = w.gpu().properties().multiprocessors as usize * 3 / 4;
        let busy = |variant: Self| variant.blocks(tokens, w) >= enough;
        match tokens {
            0..=8 => Self::Stream8,
            9..=32 if busy(Self::Tile32) => Self::Tile32,
            9..=16 => Self::Stream16,
            17..=32 => Self::Stream32,
            65.. if Self::Tile128.takes(w.format()) && busy(Self::Tile128) => Self::Tile128,
            _ if busy(Self::Tile64) => Self::Tile64,
            _ => Self::Small64,
        }
    }

    /// Whether there is such a kernel.
    pub(super) fn takes(self, format: GpuFormat) -> bool {
        match self {
            Self::W8A8(_) => format == GpuFormat::Fp8,
            Self::Tile128 | Self::Wide(_) => !matches!(format, GpuFormat::Q8 | GpuFormat::Q4),
            _ => true,
        }
    }

    pub(super) fn kernel(self, half: Half, format: GpuFormat) -> &'static str {
        let kernels = match self {
            Self::Stream8 => kernels!("linear_stream8"),
            Self::Gated8 => kernels!("linear_gated8"),
            Self::Stream16 => kernels!("linear_stream16"),
            Self::Stream32 => kernels!("linear_stream32"),
            Self::Small64 => kernels!("linear_small64"),
            Self::Tile32 => kernels!("linear_tile32"),
            Self::Tile64 => kernels!("linear_tile64"),
            Self::Tile128 => kernels!("linear_tile128"),
            Self::Wide(wide) => by_shape!(kernels, "linear_wide", wide),
            Self::W8A8(kernel) => return kernel.kernel(half),
        };
        kernels[half as usize][kind(format)]
    }

    /// Rows of the matrix and tokens of a block, or of a cluster.
    pub(super) fn shape(self) -> (usize, usize) {
        match self {
            Self::Stream8 => (16, 8),
            Self::Gated8 => (32, 8),
            Self::Stream16 => (16, 16),
            Self::Stream32 => (32, 32),
            Self::Small64 => (64, 64),
            Self::Tile32 => (128, 32),
            Self::Tile64 => (128, 64),
            Self::Tile128 => (128, 128),
            Self::Wide(wide) => wide.shape(),
            Self::W8A8(kernel) => kernel.shape(),
        }
    }

    /// Blocks for so many tokens, where a block does not have all of them, or clusters.
    pub(super) fn blocks(self, tokens: usize, w: &GpuMatrix) -> usize {
        blocks(self.shape(), tokens, w)
    }

    /// Bytes of the sums of a block, which lie by token, each with room for four more.
    fn sum_bytes(self) -> usize {
        let (rows, tokens) = self.shape();
        (rows + 4) * tokens * size_of::<f32>()
    }

    /// Chunks whose sums are kept before they are added up: a multiple of those that warps take before they look around.
    pub(super) fn slots(self, steps: usize) -> usize {
        let turn = if self == Self::Stream32 { WARPS } else { 2 * WARPS };
        let room = SUM_BYTES / self.sum_bytes() / turn * turn;
        room.min(steps.div_ceil(CHUNK).next_multiple_of(turn)).max(turn)
    }

    pub(super) fn grid(self, n: usize, w: &GpuMatrix) -> Grid {
        match self {
            Self::W8A8(kernel) => return kernel.grid(n, w),
            Self::Wide(wide) => return wide.grid(n, w, w.format().step_bytes()),
            _ => {}
        }
        let (rows, tokens) = self.shape();
        let row_blocks = w.out_features().div_ceil(rows);
        let grid = if self.streams() {
            // If there are any tokens.
            Grid::of(row_blocks * n.min(1), self.threads())
        } else {
            // Blocks with the same rows of the matrix follow each other.
            Grid::of_two(n.div_ceil(tokens), row_blocks, self.threads())
        };
        grid.with_shared(self.shared_bytes(w))
    }

    pub(super) fn threads(self) -> u32 {
        match self {
            Self::Small64 => 128,
            _ => 256,
        }
    }

    /// Shared memory of a block, for rows as long as those of `w`.
    pub(super) fn shared_bytes(self, w: &GpuMatrix) -> usize {
        if self.streams() {
            return self.slots(w.steps()) * self.sum_bytes();
        }
        // As in cuda/linear_kernels.cuh.
        let stages = if self == Self::Tile128 { 3 } else { 4 };
        let (rows, tokens) = self.shape();
        let scales = match w.format() {
            GpuFormat::Q8 | GpuFormat::Q4 => 2 * rows * 16,
            _ => 0,
        };
        let stages = stages * (rows * w.format().step_bytes() + tokens * TOKEN_BYTES) + scales;
        stages.max(self.sum_bytes())
    }
}

/// Blocks that have so many rows and tokens each, for all of `w` and `tokens`.
pub(super) fn blocks((rows, of_tokens): (usize, usize), tokens: usize, w: &GpuMatrix) -> usize {
    w.out_features().div_ceil(rows) * tokens.div_ceil(of_tokens)
}

/// Formats have kernels of their own, but floats are floats.
pub(super) fn kind(format: GpuFormat) -> usize {
    match format {
        GpuFormat::F32 | GpuFormat::F16 | GpuFormat::BF16 => 0,
        GpuFormat::Fp8 => 1,
        GpuFormat::Q8 => 2,
        GpuFormat::Q4 => 3,
    }
}

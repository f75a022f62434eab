//! Products of e4m3 with activations of eight bits: which kernel multiplies how many tokens, and tokens as these read them.
//!
//! All of them use one instruction in one order (`cuda/fp8_mma.cuh`), from one token on: how it rounds sums is its own affair, so
//! nothing else would give the same bits.

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::variant::{COUNTER_BYTES, Half, TOKEN_BYTES, Variant, WIDE_ALIGNED};
use crate::error::Result;
use crate::gpu::GpuMatrix;
use crate::gpu::format::TILE;

/// A kernel, by what a block of it has at a time: rows of the matrix, and tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum W8A8 {
    /// 32 by 8. There is a block for each multiprocessor at most, as for all of them; weights are always under way.
    Stream8,
    /// 64 by 16.
    Stream16,
    /// 64 by 32.
    Stream32,
    /// 64 by 64.
    Wide64x64,
    /// 128 by 64.
    Wide128x64,
    /// 128 by 128.
    Wide128x128,
    /// 128 by 192.
    Wide128x192,
}

/// Bytes of a step of a tile.
const TILE_BYTES: usize = 1024;
/// Steps of weights whose numbers a token has in [`TOKEN_BYTES`], and pairs of them in a chunk.
const STEPS: usize = 2;
const PAIRS: usize = 2;
/// Tokens that lie together.
const TOGETHER: usize = 128;
/// Numbers of a token that a thread rounds, and the most threads of a token.
const SET: usize = 32;
const MOST_THREADS: usize = 512;

#[derive(Clone, Copy)]
#[repr(C)]
struct RoundTokensParams {
    x: u64,
    y: u64,
    tokens: i32,
    width: i32,
    pairs: i32,
    unused: i32,
}

// SAFETY: the struct of cuda/round_tokens.cu, without padding.
unsafe impl Params for RoundTokensParams {}

/// Tokens in eight bits, as kernels read them. Scales lie before the numbers.
pub(super) struct Rounded {
    all: GpuTensor,
    scale_bytes: usize,
}

// === impl W8A8 ===

impl W8A8 {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Stream8,
        Self::Stream16,
        Self::Stream32,
        Self::Wide64x64,
        Self::Wide128x64,
        Self::Wide128x128,
        Self::Wide128x192,
    ];
    const WIDE: [Self; 4] = [Self::Wide64x64, Self::Wide128x64, Self::Wide128x128, Self::Wide128x192];

    /// The fastest one, as far as is known: no device has measured them.
    pub(super) fn choose(tokens: usize, w: &GpuMatrix) -> Self {
        match tokens {
            0..=8 => Self::Stream8,
            9..=16 => Self::Stream16,
            17..=32 => Self::Stream32,
            _ => {
                let cheapest =
                    Self::WIDE.into_iter().min_by_key(|wide| wide.twin().map(|twin| twin.cost(tokens, w)));
                cheapest.unwrap_or(Self::Wide64x64)
            }
        }
    }

    /// The kernel of the same shape for numbers of two bytes, of which a step has half as many and takes as long. `None` has all
    /// tokens in one block.
    fn twin(self) -> Option<Variant> {
        match self {
            Self::Stream8 | Self::Stream16 | Self::Stream32 => None,
            Self::Wide64x64 => Some(Variant::Wide64x64),
            Self::Wide128x64 => Some(Variant::Wide128x64),
            Self::Wide128x128 => Some(Variant::Wide128x128),
            Self::Wide128x192 => Some(Variant::Wide128x192),
        }
    }

    /// Whether one block has all tokens.
    pub(super) fn streams(self) -> bool {
        self.twin().is_none()
    }

    pub(super) fn kernel(self, half: Half) -> &'static str {
        let kernels = match self {
            Self::Stream8 => ["linear_w8a8_stream8_bf16", "linear_w8a8_stream8_f16"],
            Self::Stream16 => ["linear_w8a8_stream16_bf16", "linear_w8a8_stream16_f16"],
            Self::Stream32 => ["linear_w8a8_stream32_bf16", "linear_w8a8_stream32_f16"],
            Self::Wide64x64 => ["linear_w8a8_wide64x64_bf16", "linear_w8a8_wide64x64_f16"],
            Self::Wide128x64 => ["linear_w8a8_wide128x64_bf16", "linear_w8a8_wide128x64_f16"],
            Self::Wide128x128 => ["linear_w8a8_wide128x128_bf16", "linear_w8a8_wide128x128_f16"],
            Self::Wide128x192 => ["linear_w8a8_wide128x192_bf16", "linear_w8a8_wide128x192_f16"],
        };
        kernels[half as usize]
    }

    /// Rows of the matrix and tokens of a block.
    pub(super) fn shape(self) -> (usize, usize) {
        match (self, self.twin()) {
            (_, Some(twin)) => twin.shape(),
            (Self::Stream8, None) => (32, 8),
            (Self::Stream16, None) => (64, 16),
            (_, None) => (64, 32),
        }
    }

    pub(super) fn grid(self, n: usize, w: &GpuMatrix) -> Grid {
        let multiprocessors = w.gpu().properties().multiprocessors as usize;
        let blocks = Variant::W8A8(self).blocks(n, w).min(multiprocessors);
        Grid::of(blocks, self.threads()).with_shared(self.shared_bytes())
    }

    fn threads(self) -> u32 {
        match (self, self.twin()) {
            (_, Some(twin)) => twin.threads(),
            (Self::Stream8, None) => 512,
            _ => 256,
        }
    }

    /// Shared memory of a block, as in cuda/linear_w8a8.cu.
    fn shared_bytes(self) -> usize {
        if let Some(twin) = self.twin() {
            return twin.wide_bytes(STEPS * TILE_BYTES / TILE);
        }
        let (rows, tokens) = self.shape();
        let sums = (rows + 4) * tokens * size_of::<f32>();
        let pair = STEPS * rows / TILE * TILE_BYTES + tokens * TOKEN_BYTES;
        // Warpgroups that share k, times rounds under way; sums of two rounds.
        let bytes = match self {
            Self::Stream8 => 4 * 4 * PAIRS * pair + 2 * 4 * sums,
            Self::Stream16 => 2 * 4 * PAIRS * pair + 2 * 2 * sums,
            _ => 2 * 3 * PAIRS * pair + 2 * 2 * sums,
        };
        (bytes + COUNTER_BYTES).next_multiple_of(WIDE_ALIGNED)
    }

    /// `x` in eight bits. Its rows are aligned to sixteen bytes, and those of `w` have `steps`.
    pub(super) fn rounded(self, x: &GpuTensor, half: Half, steps: usize) -> Result<Rounded> {
        let [n, width] = [x.dims()[0], x.dims()[1]];
        let pairs = steps.div_ceil(STEPS);
        // Wide blocks read whole ones: what is beyond the last token may be anything, and becomes sums that nobody looks at.
        let rows = n.next_multiple_of(self.shape().1).next_multiple_of(TOGETHER);
        let scale_bytes = (n * size_of::<f32>()).next_multiple_of(TOKEN_BYTES);
        let all = x.gpu().empty(&[scale_bytes + rows * pairs * TOKEN_BYTES], DType::U8)?;
        let rounded = Rounded { all, scale_bytes };
        let params = RoundTokensParams {
            x: x.address(),
            y: rounded.numbers(),
            tokens: n as i32,
            width: width as i32,
            pairs: pairs as i32,
            unused: 0,
        };
        let kernel = ["round_tokens_bf16", "round_tokens_f16"][half as usize];
        let threads = (width.div_ceil(SET).next_multiple_of(32)).min(MOST_THREADS);
        let scratch = threads / 32 * size_of::<u32>();
        // SAFETY: rows of `x` are as long as they say, and there is room for the scale and the whole pairs of each.
        unsafe { x.gpu().launch(kernel, Grid::of(n, threads as u32).with_shared(scratch), &params)? };
        Ok(rounded)
    }
}

// === impl Rounded ===

impl Rounded {
    /// Where the numbers are.
    pub(super) fn numbers(&self) -> u64 {
        self.all.address() + self.scale_bytes as u64
    }
}

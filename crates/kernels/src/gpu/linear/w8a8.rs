//! Products of e4m3 with activations of eight bits: which kernel multiplies how many tokens, and tokens as these read them.
//!
//! All of them use one instruction in one order (`cuda/fp8_mma.cuh`), from one token on: how it rounds sums is its own affair, so
//! nothing else would give the same bits.

#[cfg(test)]
#[cfg(feature = "emulation")]
mod tests;

use candle_core::DType;
use vlinders_device::{GpuTensor, Grid, Params};

use super::Wide;
use super::variant::{Half, TOKEN_BYTES, blocks};
use super::wide::{COUNTER_BYTES, WIDE_ALIGNED, by_shape};
use crate::error::Result;
use crate::gpu::GpuMatrix;
use crate::gpu::format::TILE;

/// A kernel, by what a block of it has at a time: rows of the matrix, and tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum W8A8 {
    /// 32 by 8. There is a block for each multiprocessor at most, as for all of them; weights are always under way.
    Stream8,
    /// As for numbers of two bytes, of which a step has half as many and takes as long.
    Wide(Wide),
}

/// Bytes of a step of a tile.
const TILE_BYTES: usize = 1024;
/// Steps of weights whose numbers a token has in [`TOKEN_BYTES`], and pairs of them in a chunk.
const STEPS: usize = 2;
const PAIRS: usize = 2;
/// Of a block of [`W8A8::Stream8`].
const STREAM_THREADS: u32 = 512;
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

/// By type of activations.
macro_rules! kernels {
    ($($part:literal),+) => {
        [concat!($($part),+, "_bf16"), concat!($($part),+, "_f16")]
    };
}

// === impl W8A8 ===

impl W8A8 {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Stream8).chain(Wide::ALL.map(Self::Wide))
    }

    /// The fastest one.
    pub(super) fn choose(tokens: usize, w: &GpuMatrix) -> Self {
        let multiprocessors = w.gpu().properties().multiprocessors as usize;
        // Where there are few rows, more blocks have some of them.
        if tokens <= Self::Stream8.shape().1 && Wide::Of64x64.units(tokens, w) * 3 < multiprocessors * 2 {
            return Self::Stream8;
        }
        Self::Wide(Wide::choose(tokens, w))
    }

    /// Whether one block has all tokens.
    pub(super) fn streams(self) -> bool {
        self == Self::Stream8
    }

    pub(super) fn kernel(self, half: Half) -> &'static str {
        let kernels = match self {
            Self::Stream8 => kernels!("linear_w8a8_stream8"),
            Self::Wide(wide) => by_shape!(kernels, "linear_w8a8_wide", wide),
        };
        kernels[half as usize]
    }

    /// Rows of the matrix and tokens of a block, or of a cluster.
    pub(super) fn shape(self) -> (usize, usize) {
        match self {
            Self::Stream8 => (32, 8),
            Self::Wide(wide) => wide.shape(),
        }
    }

    pub(super) fn grid(self, n: usize, w: &GpuMatrix) -> Grid {
        match self {
            // Four warpgroups that share k, times four rounds under way; sums of two rounds. As in cuda/linear_w8a8.cu.
            Self::Stream8 => {
                let (rows, tokens) = self.shape();
                let pair = STEPS * rows / TILE * TILE_BYTES + tokens * TOKEN_BYTES;
                let sums = (rows + 4) * tokens * size_of::<f32>();
                let bytes = 4 * 4 * PAIRS * pair + 2 * 4 * sums + COUNTER_BYTES;
                let multiprocessors = w.gpu().properties().multiprocessors as usize;
                Grid::of(blocks(self.shape(), n, w).min(multiprocessors), STREAM_THREADS)
                    .with_shared(bytes.next_multiple_of(WIDE_ALIGNED))
            }
            Self::Wide(wide) => wide.grid(n, w, STEPS * TILE_BYTES / TILE),
        }
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

//! How rows of numbers are written in files: floats, and the block encodings of GGUF.
//!
//! The layouts of the blocks are those of ggml (`block_q4_0`, `block_q4_K`, … in its `ggml-common.h`); all
//! multi-byte numbers are little-endian. [`Stored::decode`] is the definition of what a row means; packing takes
//! shorter ways where a file and memory agree.

mod blocks;
pub(crate) mod k_quants;

use half::{bf16, f16};

/// How a row of numbers is written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "the names that files and tools use")]
pub enum Stored {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// Floats of eight bits, four of them exponent; what scales they have stands elsewhere, see [`Stored::decode`].
    F8_E4M3,
    /// 32 signed bytes and a scale.
    Q8_0,
    /// 32 nibbles and a scale.
    Q4_0,
    /// 32 nibbles, a scale and a minimum.
    Q4_1,
    /// 32 numbers of five bits and a scale.
    Q5_0,
    /// 32 numbers of five bits, a scale and a minimum.
    Q5_1,
    /// 256 nibbles; scales and minima of each 32 as multiples of common ones.
    Q4_K,
    /// 256 numbers of five bits, otherwise as `Q4_K`.
    Q5_K,
    /// 256 numbers of six bits, with scales of each sixteen as multiples of a common one.
    Q6_K,
}

// === impl Stored ===

impl Stored {
    /// Numbers that are encoded together.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 | Self::F8_E4M3 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of the numbers that are encoded together.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::F8_E4M3 => 1,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Bytes of a row of `len` numbers; `None` when they are not whole blocks, or too many to count.
    #[must_use]
    pub fn row_bytes(self, len: usize) -> Option<usize> {
        len.is_multiple_of(self.block_len())
            .then(|| (len / self.block_len()).checked_mul(self.block_bytes()))
            .flatten()
    }

    /// The numbers that `bytes` encode, into `numbers`; what does not fill a block on either side is left alone. Numbers of
    /// [`F8_E4M3`](Self::F8_E4M3) are those of the codes, before any scale.
    pub fn decode(self, bytes: &[u8], numbers: &mut [f32]) {
        match self {
            Self::F32 => each(bytes, numbers, |b: [u8; 4]| [f32::from_le_bytes(b)]),
            Self::F16 => each(bytes, numbers, |b: [u8; 2]| [f16::from_le_bytes(b).to_f32()]),
            Self::BF16 => each(bytes, numbers, |b: [u8; 2]| [bf16::from_le_bytes(b).to_f32()]),
            Self::F8_E4M3 => each(bytes, numbers, |[code]: [u8; 1]| [blocks::e4m3(code)]),
            Self::Q8_0 => each(bytes, numbers, blocks::q8_0),
            Self::Q4_0 => each(bytes, numbers, blocks::q4_0),
            Self::Q4_1 => each(bytes, numbers, blocks::q4_1),
            Self::Q5_0 => each(bytes, numbers, blocks::q5_0),
            Self::Q5_1 => each(bytes, numbers, blocks::q5_1),
            Self::Q4_K => each(bytes, numbers, blocks::q4_k),
            Self::Q5_K => each(bytes, numbers, blocks::q5_k),
            Self::Q6_K => each(bytes, numbers, blocks::q6_k),
        }
    }
}

fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    numbers: &mut [f32],
    block: impl Fn([u8; B]) -> [f32; N],
) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (numbers, _) = numbers.as_chunks_mut::<N>();
    for (bytes, numbers) in blocks.iter().zip(numbers) {
        *numbers = block(*bytes);
    }
}

#[cfg(test)]
mod tests;

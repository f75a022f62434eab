//! Products with quantised weights: whole numbers with a scale for each 32 of a row.
//!
//! Activations are quantised too, to eight bits with a scale for each 32 of a row, and codes are multiplied as whole
//! numbers. Those sums are exact, so their order means nothing; the products of a row's blocks are then one chain of
//! fused multiply-adds over ascending blocks. A result therefore depends on its own row alone, and is the same bits
//! on every instruction set.
//!
//! A tile holds sixteen rows of the matrix. Two blocks of 32 input features make a unit: the scales of the first
//! block and of the second (sixteen f16 each), then the codes of the first and of the second. Codes lie as dot
//! products of four want them: `[8 groups][16 rows][4]` for eight bits; for four bits `[4 groups][16 rows][4]`, the
//! lower nibble being number `k` and the upper one number `k + 16` of the block.

mod activations;
mod codes;
mod dots;
mod micro;
mod multiply;
mod pack;

pub use self::pack::round_rows;
pub(crate) use self::{
    codes::{Q4, Q8, QuantTile, with_tile},
    multiply::multiply,
    pack::pack_row,
};

/// Numbers of a row that share a scale.
pub(crate) const BLOCK: usize = 32;

#[cfg(test)]
mod tests;

//! Products with quantised weights: whole numbers with a scale for each 32 (or sixteen) of a row.
//!
//! Activations are quantised too, to eight bits with a scale for each 32 of a row, and codes are multiplied as whole
//! numbers. Those sums are exact, so their order means nothing; the products of a row's blocks are then one chain of
//! fused multiply-adds over ascending blocks. A result therefore depends on its own row alone, and is the same bits
//! on every instruction set.
//!
//! A tile holds sixteen rows of the matrix, in units of a few blocks of 32 input features: first what the codes of the unit
//! are multiplied with, then the codes, as dot products of four want them. Each format has a file that says how.

mod activations;
mod affine;
mod dots;
mod micro;
mod multiply;
mod pack;
mod round;
mod simple;
mod six;
mod tile;

pub use self::pack::round_rows;
pub(crate) use self::{
    affine::{Q4K, Q5K},
    multiply::multiply,
    pack::{pack_row, unpack_row},
    simple::{Q4, Q8},
    six::Q6K,
    tile::{QuantTile, with_tile},
};

/// Numbers of a row that share a scale of activations, and the step in which products are added.
pub(crate) const BLOCK: usize = 32;

#[cfg(test)]
mod tests;

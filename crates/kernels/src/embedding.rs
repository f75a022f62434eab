//! Token embeddings, gathered from the packed table, so that a tied output head needs no second copy of it.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::{KernelError, Result};
use crate::pool::parallel_rows;
use crate::tensor::{Shared, filled};
use crate::weight::PackedWeight;

const OP: &str = "embedding";

/// Rows `ids` of `table` `[vocabulary, hidden]`, widened to f32: `[ids.len(), hidden]`.
///
/// # Errors
/// An id that is not in the table.
pub fn embedding(ids: &[u32], table: &Arc<PackedWeight>) -> Result<Tensor> {
    embedding_share(ids, table, 0, table.out_features())
}

/// The same where `table` holds the rows from `first` on of a vocabulary of `vocabulary` tokens: rows that it lacks are zeros,
/// so that the sum over all shares is the embedding.
///
/// # Errors
/// An id that is not in the vocabulary.
pub fn embedding_share(
    ids: &[u32],
    table: &Arc<PackedWeight>,
    first: usize,
    vocabulary: usize,
) -> Result<Tensor> {
    let (held, hidden) = (table.out_features(), table.in_features());
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        return Err(KernelError::OutOfRange {
            op: OP,
            what: "token",
            index: *id as usize,
            limit: vocabulary,
        });
    }
    // SAFETY: every row of the output is written, by one chunk. It is zeroed first, as `read_row` wants a slice.
    let rows = unsafe {
        filled(ids.len() * hidden, |out| {
            let out = Shared::new(out);
            // A row of the table is spread over its tile: reading one costs a cache line for each few numbers.
            parallel_rows(ids.len(), hidden * 4, &|rows| {
                for row in rows {
                    let to = out.get().add(row * hidden);
                    to.write_bytes(0, hidden);
                    if let Some(of_table) = (ids[row] as usize).checked_sub(first).filter(|row| *row < held) {
                        table.read_row(of_table, std::slice::from_raw_parts_mut(to, hidden));
                    }
                }
            })
        })?
    };
    Ok(Tensor::from_vec(rows, (ids.len(), hidden), &Device::Cpu)?)
}

#[cfg(test)]
mod tests;

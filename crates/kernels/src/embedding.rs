//! Token embeddings, gathered from the packed table, so that a tied output head needs no second copy of it.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::error::{KernelError, Result};
use crate::pool::parallel_rows;
use crate::tensor::{Shared, filled};
use crate::weight::PackedWeight;

/// Rows `ids` of `table` `[vocabulary, hidden]`, widened to f32: `[ids.len(), hidden]`.
///
/// # Errors
/// An id that is not in the table.
pub fn embedding(ids: &[u32], table: &Arc<PackedWeight>) -> Result<Tensor> {
    const OP: &str = "embedding";
    let (limit, hidden) = (table.out_features(), table.in_features());
    if let Some(id) = ids.iter().find(|id| **id as usize >= limit) {
        return Err(KernelError::OutOfRange { op: OP, what: "token", index: *id as usize, limit });
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
                    table.read_row(ids[row] as usize, std::slice::from_raw_parts_mut(to, hidden));
                }
            })
        })?
    };
    Ok(Tensor::from_vec(rows, (ids.len(), hidden), &Device::Cpu)?)
}

#[cfg(test)]
mod tests;

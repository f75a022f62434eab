//! The table of tensors of a GGUF file.

use vlinders_kernels::Stored;

use super::super::shard::Shard;
use super::bad;
use super::reader::Reader;
use crate::LayerError;

const MAX_NAME_BYTES: u64 = 1024;
const MAX_DIMS: u32 = 4;

/// One tensor as the table has it.
#[derive(Debug)]
pub(super) struct RawTensor {
    pub(super) name: String,
    /// Rows before columns: GGUF counts dimensions from the innermost on.
    pub(super) shape: Vec<usize>,
    pub(super) stored: Option<Stored>,
    pub(super) dtype_name: String,
    /// From the start of the data.
    pub(super) offset: u64,
    /// Bytes in the file; up to the next tensor when the type is not known.
    pub(super) bytes: u64,
}

// === impl RawTensor ===

impl RawTensor {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, LayerError> {
        let name = reader.text(MAX_NAME_BYTES, &|| "the name of a tensor".to_owned())?;
        let num_dims = reader.u32()?;
        if num_dims == 0 || num_dims > MAX_DIMS {
            return Err(
                reader.bad(format!("{name} has {num_dims} dimensions, the most is {MAX_DIMS}, the least 1"))
            );
        }
        let mut shape = Vec::with_capacity(num_dims as usize);
        for _ in 0..num_dims {
            match usize::try_from(reader.u64()?) {
                Ok(size @ 1..) => shape.insert(0, size),
                _ => return Err(reader.bad(format!("{name} has a dimension of no size"))),
            }
        }
        let (dtype_name, stored) = dtype(reader.u32()?);
        let offset = reader.u64()?;
        let bytes = match stored {
            Some(stored) => num_bytes(stored, &shape).ok_or_else(|| {
                let len = stored.block_len();
                reader.bad(format!(
                    "{name} is {dtype_name} of shape {shape:?}: rows that are no whole blocks of {len}, or too many"
                ))
            })?,
            None => 0,
        };
        Ok(Self { name, shape, stored, dtype_name, offset, bytes })
    }
}

/// Tensors must begin at multiples of the alignment, lie inside of the file, and not overlap.
pub(super) fn check_ranges(
    shard: &Shard,
    data_start: u64,
    alignment: u64,
    tensors: &mut [RawTensor],
) -> Result<(), LayerError> {
    let file = &shard.name;
    tensors.sort_by_key(|tensor| tensor.offset);
    let room = shard.len.saturating_sub(data_start);
    let mut ends: Vec<u64> = tensors.iter().skip(1).map(|tensor| tensor.offset).collect();
    ends.push(u64::MAX);
    for (tensor, next) in tensors.iter_mut().zip(ends) {
        let (name, offset) = (&tensor.name, tensor.offset);
        if !offset.is_multiple_of(alignment) {
            return Err(bad(file, format!("{name} begins at {offset}, which is no multiple of {alignment}")));
        }
        if tensor.stored.is_none() {
            tensor.bytes = next.min(room).saturating_sub(offset);
        }
        let end = offset.saturating_add(tensor.bytes);
        if end > room {
            let expected = data_start.saturating_add(end);
            return Err(LayerError::Truncated { file: file.clone(), expected, found: shard.len });
        }
        if end > next {
            return Err(bad(file, format!("{name} reaches into the tensor behind it")));
        }
    }
    Ok(())
}

fn num_bytes(stored: Stored, shape: &[usize]) -> Option<u64> {
    let (cols, rows) = shape.split_last()?;
    let row = stored.row_bytes(*cols)? as u64;
    rows.iter().try_fold(row, |bytes, rows| bytes.checked_mul(*rows as u64))
}

/// The name of a type, and how to read it, if that is known; numbers are those of `enum ggml_type`.
fn dtype(number: u32) -> (String, Option<Stored>) {
    let (name, stored) = match number {
        0 => ("F32", Some(Stored::F32)),
        1 => ("F16", Some(Stored::F16)),
        2 => ("Q4_0", Some(Stored::Q4_0)),
        3 => ("Q4_1", Some(Stored::Q4_1)),
        6 => ("Q5_0", Some(Stored::Q5_0)),
        7 => ("Q5_1", Some(Stored::Q5_1)),
        8 => ("Q8_0", Some(Stored::Q8_0)),
        12 => ("Q4_K", Some(Stored::Q4_K)),
        13 => ("Q5_K", Some(Stored::Q5_K)),
        14 => ("Q6_K", Some(Stored::Q6_K)),
        30 => ("BF16", Some(Stored::BF16)),
        10 => ("Q2_K", None),
        11 => ("Q3_K", None),
        16 => ("IQ2_XXS", None),
        17 => ("IQ2_XS", None),
        18 => ("IQ3_XXS", None),
        19 => ("IQ1_S", None),
        20 => ("IQ4_NL", None),
        21 => ("IQ3_S", None),
        22 => ("IQ2_S", None),
        23 => ("IQ4_XS", None),
        28 => ("F64", None),
        29 => ("IQ1_M", None),
        34 => ("TQ1_0", None),
        35 => ("TQ2_0", None),
        39 => ("MXFP4", None),
        other => return (format!("type {other}"), None),
    };
    (name.to_owned(), stored)
}

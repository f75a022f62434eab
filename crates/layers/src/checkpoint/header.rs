//! The header of a safetensors file: which tensor is where.
//!
//! Format: eight bytes of length (little-endian), that many bytes of JSON, then the data. The JSON maps each name
//! to dtype, shape and the half-open byte range in the data; ranges follow each other without gaps and end
//! with the file (<https://github.com/huggingface/safetensors#format>). All of that is checked here, so nothing
//! behind it can read out of bounds.
//!
//! The format has no blocks of quantised numbers. `vlinders quantize` writes a matrix of them as `U8` of shape `[rows, bytes
//! of a row]` and names its encoding in the `__metadata__` of the file, under `vlinders.encoding:` and the name of the
//! tensor, `Q8_0`, `Q4_0`, `Q4_K`, `Q5_K` or `Q6_K`, with blocks as GGUF has them. `packed.rs` says how `vlinders pack`
//! writes matrices as they lie in memory.

use std::collections::HashMap;

use serde::Deserialize;
use vlinders_kernels::Stored;

use super::TensorInfo;
use crate::LayerError;

/// A header longer than this is refused, as the reference implementation does.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Bytes of the length in front of the header.
pub(super) const LENGTH_BYTES: u64 = 8;

/// Begins the keys of `__metadata__` that name encodings.
pub(super) const ENCODING: &str = "vlinders.encoding:";

/// Encodings that quantised matrices may have.
const ENCODINGS: [Stored; 5] = [Stored::Q8_0, Stored::Q4_0, Stored::Q4_K, Stored::Q5_K, Stored::Q6_K];

/// One entry as the JSON has it.
#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Length of the JSON, from the first eight bytes of a file of `file_len` bytes.
pub(super) fn json_length(file: &str, file_len: u64, first: [u8; 8]) -> Result<u64, LayerError> {
    let length = u64::from_le_bytes(first);
    if length > MAX_HEADER_BYTES {
        return Err(bad(file, format!("its header claims {length} bytes, the most is {MAX_HEADER_BYTES}")));
    }
    if LENGTH_BYTES + length > file_len {
        return Err(LayerError::Truncated {
            file: file.to_owned(),
            expected: LENGTH_BYTES + length,
            found: file_len,
        });
    }
    Ok(length)
}

/// Parse and check the JSON; offsets of the result count from the start of the file.
pub(super) fn parse(
    file: &str,
    shard: usize,
    file_len: u64,
    json: &[u8],
) -> Result<HashMap<String, TensorInfo>, LayerError> {
    let raw: HashMap<String, serde_json::Value> =
        serde_json::from_slice(json).map_err(|e| bad(file, format!("its header is not JSON: {e}")))?;
    let data_start = LENGTH_BYTES + json.len() as u64;
    let mut tensors = HashMap::with_capacity(raw.len());
    let mut ranges = Vec::with_capacity(raw.len());
    let mut encodings =
        raw.get("__metadata__").map(|all| encodings(file, all)).transpose()?.unwrap_or_default();
    for (name, value) in raw {
        if name == "__metadata__" {
            continue;
        }
        let tensor: RawTensor =
            serde_json::from_value(value).map_err(|e| bad(file, format!("the entry of {name}: {e}")))?;
        let (begin, end) = tensor.data_offsets;
        let size = match bits(&tensor.dtype) {
            Some(bits) => byte_size(&tensor.shape, bits),
            // a type to come: nothing can be said of its size, and it is refused where it is needed
            None => end.checked_sub(begin),
        };
        let size = size.ok_or_else(|| bad(file, format!("the size of {name} overflows")))?;
        if end.checked_sub(begin) != Some(size) {
            return Err(bad(
                file,
                format!(
                    "{name} is {} of shape {:?}, which takes {size} bytes, but its offsets are {begin} to {end}",
                    tensor.dtype, tensor.shape
                ),
            ));
        }
        ranges.push((begin, end));
        let stored = match tensor.dtype.as_str() {
            "F32" => Some(Stored::F32),
            "F16" => Some(Stored::F16),
            "BF16" => Some(Stored::BF16),
            // Its scales stand in another tensor: see `scales.rs`.
            "F8_E4M3" => Some(Stored::F8_E4M3),
            _ => None,
        };
        let offset = data_start
            .checked_add(begin)
            .ok_or_else(|| bad(file, format!("the offsets of {name} overflow")))?;
        let mut info = TensorInfo {
            shard,
            offset,
            bytes: size,
            shape: tensor.shape,
            stored,
            dtype_name: tensor.dtype,
            interleaved_head: None,
            packed: None,
        };
        if let Some(encoding) = encodings.remove(&name) {
            info = encoded(info, &encoding).ok_or_else(|| {
                bad(
                    file,
                    format!(
                        "{name} can not be {encoding}: it must be U8, rows of whole blocks of one of {ENCODINGS:?}"
                    ),
                )
            })?;
        }
        tensors.insert(name, info);
    }
    if let Some(name) = encodings.keys().min() {
        return Err(bad(file, format!("it names the encoding of {name}, which it does not hold")));
    }
    check_ranges(file, data_start, file_len, ranges)?;
    Ok(tensors)
}

/// `__metadata__` of a header that was parsed before; empty where there is none.
pub(super) fn metadata(file: &str, json: &[u8]) -> Result<HashMap<String, String>, LayerError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        metadata: serde_json::Value,
    }
    let header: Header = serde_json::from_slice(json).map_err(|e| bad(file, e.to_string()))?;
    if header.metadata.is_null() { Ok(HashMap::new()) } else { texts(file, &header.metadata) }
}

fn texts(file: &str, metadata: &serde_json::Value) -> Result<HashMap<String, String>, LayerError> {
    HashMap::deserialize(metadata).map_err(|e| bad(file, format!("its __metadata__ is no map of texts: {e}")))
}

/// Encodings by tensor, as `__metadata__` has them.
fn encodings(file: &str, metadata: &serde_json::Value) -> Result<HashMap<String, String>, LayerError> {
    let texts = texts(file, metadata)?;
    let named =
        texts.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(ENCODING)?.to_owned(), value)));
    Ok(named.collect())
}

/// A matrix of bytes as the matrix that it encodes.
fn encoded(mut info: TensorInfo, encoding: &str) -> Option<TensorInfo> {
    let stored = ENCODINGS.into_iter().find(|stored| format!("{stored:?}") == encoding)?;
    let [rows, row_bytes] = info.shape[..] else { return None };
    if info.dtype_name != "U8" || row_bytes == 0 || !row_bytes.is_multiple_of(stored.block_bytes()) {
        return None;
    }
    info.shape = vec![rows, row_bytes / stored.block_bytes() * stored.block_len()];
    (info.stored, info.dtype_name) = (Some(stored), encoding.to_owned());
    Some(info)
}

/// Ranges must follow each other from 0 to the end of the file.
fn check_ranges(
    file: &str,
    data_start: u64,
    file_len: u64,
    mut ranges: Vec<(u64, u64)>,
) -> Result<(), LayerError> {
    ranges.sort_unstable();
    let mut end = 0;
    for (begin, next) in ranges {
        if begin != end {
            return Err(bad(file, format!("its tensors overlap or leave a gap at byte {end} of the data")));
        }
        end = next;
    }
    let expected = data_start.saturating_add(end);
    match file_len {
        found if found < expected => Err(LayerError::Truncated { file: file.to_owned(), expected, found }),
        found if found > expected => {
            Err(bad(file, format!("{} bytes follow the last tensor", found - expected)))
        }
        _ => Ok(()),
    }
}

/// Bits of one number of this type.
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "BOOL" | "I8" | "U8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 8,
        "F6_E2M3" | "F6_E3M2" => 6,
        "F4" => 4,
        _ => return None,
    })
}

fn byte_size(shape: &[usize], bits: u64) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
    Some(elements.checked_mul(bits)?.div_ceil(8))
}

fn bad(file: &str, reason: String) -> LayerError {
    LayerError::BadHeader { file: file.to_owned(), reason }
}

/// What stands before the data, which then begins at a multiple of `alignment`.
pub(super) fn to_bytes(header: serde_json::Map<String, serde_json::Value>, alignment: usize) -> Vec<u8> {
    let mut json = serde_json::Value::Object(header).to_string();
    let start = LENGTH_BYTES as usize + json.len();
    json.extend(std::iter::repeat_n(' ', start.next_multiple_of(alignment) - start));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

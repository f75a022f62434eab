//! GGUF files: one file that holds weights, sizes, tokenizer and template.
//!
//! Format (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3, little-endian: magic,
//! version, the numbers of tensors and of key-value pairs; the pairs; for each tensor its name, dimensions, type and
//! offset; then, from the next multiple of the alignment on, the data. A large model may come as several such files. All
//! counts, lengths, offsets and sizes are checked here against the file, so nothing behind this module can read out
//! of bounds.

mod experts;
mod metadata;
mod names;
mod reader;
mod tensors;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::experts::Census;
pub use self::metadata::Metadata;
use self::reader::Reader;
use self::tensors::RawTensor;
use super::method::Method;
use super::shard::Shard;
use super::{Checkpoint, Container, Header, TensorInfo};
use crate::{ExpertNames, LayerError};

const MAGIC: [u8; 4] = *b"GGUF";
/// Tensors come in the order of the model's layers; more than this are no model.
const MAX_TENSORS: u64 = 1 << 20;
const MAX_PAIRS: u64 = 1 << 20;
const MAX_FILES: u64 = 1000;
/// The tensor that holds the divisors of the rotary frequencies; it is read with the sizes, not with the weights.
const ROPE_FREQS: &str = "rope_freqs.weight";
const MAX_FLOATS: u64 = 1 << 16;

/// A GGUF file, or the files of one model, with the headers read and checked.
#[derive(Debug)]
pub struct Gguf {
    file: String,
    version: u32,
    metadata: Metadata,
    parts: Vec<Part>,
}

/// How the tensors of a file differ from those of a Hugging Face folder, which depends on the architecture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GgufLayout {
    /// The size of a head when the rows of q and k lie as llama.cpp wants them for the architecture `llama`: in each head, the
    /// numbers that turn together are neighbours, while everywhere else they are half a head apart. They are put back
    /// while loading.
    pub interleaved_head: Option<usize>,
    /// The experts, which lie in one tensor for each layer.
    pub experts: Option<GgufExperts>,
}

/// The experts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgufExperts {
    /// How many there are.
    pub count: usize,
    /// What the model calls them.
    pub names: ExpertNames,
}

/// One file.
#[derive(Debug)]
struct Part {
    shard: Arc<Shard>,
    header: Header,
    tensors: Vec<RawTensor>,
}

// === impl Gguf ===

impl Gguf {
    /// Open a file, or the first of several, which are found beside it.
    ///
    /// # Errors
    /// When it is no GGUF file, is truncated, or its header makes no sense.
    pub fn open(path: &Path) -> Result<Self, LayerError> {
        let mut gguf = Self::read(Shard::open(path)?)?;
        let file = gguf.file.clone();
        let count = gguf.metadata.count("split.count")?.unwrap_or(1);
        if count > MAX_FILES {
            return Err(bad(&file, format!("it says that it is one of {count} files")));
        }
        if let number @ 1.. = gguf.metadata.count("split.no")?.unwrap_or(0) {
            return Err(bad(
                &file,
                format!("it is file {} of {count}; give the first one", number.saturating_add(1)),
            ));
        }
        for number in 1..count {
            let path = sibling(path, number, count)
                .ok_or_else(|| bad(&file, format!("it is the first of {count} files, but its name does not end in -00001-of-{count:05}.gguf, so that the others can not be found; name the files as they were")))?;
            let part = Self::read(Shard::open(&path)?)?;
            if part.metadata.count("split.no")? != Some(number) {
                return Err(bad(
                    &part.file,
                    format!("it is not file {} of {count}, as its name says", number + 1),
                ));
            }
            gguf.parts.extend(part.parts);
        }
        gguf.check_names()?;
        Ok(gguf)
    }

    /// Read the header of one file.
    fn read(shard: Shard) -> Result<Self, LayerError> {
        let file = shard.name.clone();
        let mut reader = Reader::new(&shard);
        let magic: [u8; 4] = reader.array()?;
        if magic != MAGIC {
            return Err(bad(&file, "it does not begin with GGUF".to_owned()));
        }
        let version = match reader.u32()? {
            version @ 2..=3 => version,
            1 => return Err(bad(&file, "it is of version 1; convert the model again".to_owned())),
            big if big & 0xffff == 0 && big != 0 => {
                return Err(bad(
                    &file,
                    "its numbers are big-endian; convert the model for little-endian".to_owned(),
                ));
            }
            other => return Err(bad(&file, format!("it is of version {other}; 2 and 3 are supported"))),
        };
        let num_tensors = reader.count("tensors", MAX_TENSORS)?;
        let num_pairs = reader.count("keys", MAX_PAIRS)?;
        let metadata = Metadata::read(&mut reader, num_pairs)?;
        let alignment = alignment(&file, &metadata)?;
        let begin = reader.position();
        let mut tensors =
            (0..num_tensors).map(|_| RawTensor::read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let end = reader.position();
        let data_start = end.next_multiple_of(alignment);
        tensors::check_ranges(&shard, data_start, alignment, &mut tensors)?;
        let mut table = Vec::new();
        let table = shard.read(begin, (end - begin) as usize, &mut table)?.into_owned();
        let header = Header { bytes: table, data_start: data_start.min(shard.len) };
        let part = Part { shard: Arc::new(shard), header, tensors };
        Ok(Self { file, version, metadata, parts: vec![part] })
    }

    fn check_names(&self) -> Result<(), LayerError> {
        let mut seen = HashMap::new();
        for part in &self.parts {
            for tensor in &part.tensors {
                if seen.insert(&tensor.name, ()).is_some() {
                    return Err(bad(&part.shard.name, format!("the tensor {} is there twice", tensor.name)));
                }
            }
        }
        if let Some(count) = self.metadata.count("split.tensors.count")?
            && count != seen.len() as u64
        {
            return Err(bad(
                &self.file,
                format!("it says that the model has {count} tensors, its files have {}", seen.len()),
            ));
        }
        Ok(())
    }

    /// The file, as errors name it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Version of the format.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its keys and values.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// GGUF names of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(|part| &part.tensors).map(|tensor| tensor.name.as_str())
    }

    /// The shape of a tensor by its GGUF name, `[rows, cols]` for a matrix.
    #[must_use]
    pub fn shape(&self, tensor: &str) -> Option<&[usize]> {
        Some(self.find(tensor)?.1.shape.as_slice())
    }

    fn find(&self, tensor: &str) -> Option<(&Part, &RawTensor)> {
        self.parts.iter().find_map(|part| Some((part, part.tensors.iter().find(|t| t.name == tensor)?)))
    }

    /// The divisors of the rotary frequencies, where the file has them.
    ///
    /// # Errors
    /// When they can not be read or are no floats.
    pub fn rope_factors(&self) -> Result<Option<Vec<f32>>, LayerError> {
        let Some((part, tensor)) = self.find(ROPE_FREQS) else { return Ok(None) };
        let stored = tensor.stored.filter(|stored| stored.block_len() == 1);
        let len = tensor.shape.iter().product::<usize>();
        let (Some(stored), true) = (stored, tensor.bytes <= 4 * MAX_FLOATS) else {
            let reason = format!("{ROPE_FREQS} is {} of shape {:?}", tensor.dtype_name, tensor.shape);
            return Err(bad(&part.shard.name, reason));
        };
        let mut buffer = Vec::new();
        let offset = part.header.data_start + tensor.offset;
        let bytes = part.shard.read(offset, tensor.bytes as usize, &mut buffer)?;
        let mut factors = vec![0.0; len];
        stored.decode(&bytes, &mut factors);
        Ok(Some(factors))
    }

    /// An error about this file.
    #[must_use]
    pub fn error(&self, reason: impl Into<String>) -> LayerError {
        bad(&self.file, reason.into())
    }
}

// === impl Checkpoint ===

impl Checkpoint {
    /// The weights of a GGUF file under the names that Hugging Face gives them, in the order in which models have them.
    ///
    /// # Errors
    /// When q or k are not whole heads, or experts are missing or of a type that can not be loaded.
    pub fn gguf(gguf: &Gguf, layout: GgufLayout) -> Result<Self, LayerError> {
        let mut tensors = HashMap::new();
        let mut census = layout.experts.map(|experts| Census::new(&gguf.file, experts));
        for (shard, part) in gguf.parts.iter().enumerate() {
            for tensor in part.tensors.iter().filter(|tensor| tensor.name != ROPE_FREQS) {
                let interleaved_head = layout.interleaved_head.filter(|_| names::is_rotated(&tensor.name));
                if let Some(head) = interleaved_head {
                    check_heads(&part.shard.name, tensor, head)?;
                }
                let info = TensorInfo {
                    shard,
                    offset: part.header.data_start + tensor.offset,
                    bytes: tensor.bytes,
                    shape: tensor.shape.clone(),
                    stored: tensor.stored,
                    dtype_name: tensor.dtype_name.clone(),
                    interleaved_head,
                    packed: None,
                };
                let experts = match &mut census {
                    Some(census) => census.take(&part.shard.name, tensor, &info)?,
                    None => None,
                };
                let name = || names::hugging_face(&tensor.name).unwrap_or_else(|| tensor.name.clone());
                for (name, info) in experts.unwrap_or_else(|| vec![(name(), info)]) {
                    if tensors.insert(name, info).is_some() {
                        return Err(bad(
                            &part.shard.name,
                            format!("the tensor {} is there twice", tensor.name),
                        ));
                    }
                }
            }
        }
        census.map_or(Ok(()), Census::finish)?;
        Ok(Self {
            place: gguf.file.clone(),
            shards: gguf.parts.iter().map(|part| Arc::clone(&part.shard)).collect(),
            tensors,
            headers: gguf.parts.iter().map(|part| part.header.clone()).collect(),
            container: Container::Gguf,
            method: Method::Plain,
        })
    }
}

/// Rows, or numbers of a vector, that can be put back head by head.
fn check_heads(file: &str, tensor: &RawTensor, head: usize) -> Result<(), LayerError> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    let whole_rows = tensor.shape.len() > 1 || tensor.stored.is_none_or(|stored| stored.block_len() == 1);
    if head == 0 || !head.is_multiple_of(2) || !rows.is_multiple_of(head) || !whole_rows {
        let (name, shape, dtype) = (&tensor.name, &tensor.shape, &tensor.dtype_name);
        return Err(bad(
            file,
            format!("{name} is {dtype} of shape {shape:?}, which is no whole number of heads of {head}"),
        ));
    }
    Ok(())
}

fn alignment(file: &str, metadata: &Metadata) -> Result<u64, LayerError> {
    const KEY: &str = "general.alignment";
    match metadata.count(KEY)? {
        None => Ok(32),
        Some(alignment) if alignment.is_power_of_two() && alignment <= 1 << 20 => Ok(alignment),
        Some(other) => {
            Err(bad(file, format!("{KEY} is {other}; it must be a power of two up to {}", 1 << 20)))
        }
    }
}

/// File `number` (from 0) of `count`, beside the first.
fn sibling(first: &Path, number: u64, count: u64) -> Option<PathBuf> {
    let stem = first.file_name()?.to_str()?.strip_suffix(&format!("-00001-of-{count:05}.gguf"))?;
    Some(first.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", number + 1)))
}

fn bad(file: &str, reason: String) -> LayerError {
    LayerError::BadGguf { file: file.to_owned(), reason }
}

#[cfg(test)]
mod tests;

//! A checkpoint: the tensors of one or more files of safetensors or GGUF, by name.
//!
//! Opening reads headers only and checks them. [`Checkpoint::load`] then streams what a [`LoadPlan`] asks for, or maps it
//! where the file has it as it lies in memory.

mod cut;
mod gguf;
mod header;
mod load;
mod map;
mod method;
mod pack;
mod packed;
mod quantize;
mod scales;
mod shard;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use vlinders_kernels::{Format, Stored};

pub use self::gguf::{Gguf, GgufExperts, GgufLayout, Metadata};
pub use self::load::{LoadStats, LoadedTensors};
use self::method::Method;
pub use self::method::linear_encoding;
pub use self::pack::PackStats;
use self::packed::PackedNote;
pub use self::quantize::QuantizeStats;
use self::shard::Shard;
use crate::{LayerError, LoadPlan, MatrixSpec, Precision};

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const PACKED: &str = "packed.safetensors";
/// Problems of one matrix that are told: those of hundreds of experts are all the same.
const TOLD: usize = 3;

/// The tensors of a model, by name, and where they lie.
#[derive(Debug)]
pub struct Checkpoint {
    place: String,
    shards: Vec<Arc<Shard>>,
    tensors: HashMap<String, TensorInfo>,
    headers: Vec<Header>,
    container: Container,
    method: Method,
}

/// What kind of files the tensors are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Safetensors,
    Gguf,
    /// One file of safetensors that holds what loading makes of others: see `packed.rs`.
    Packed,
}

/// What stands before the data of a file.
#[derive(Debug, Clone)]
struct Header {
    /// The part that describes the tensors.
    bytes: Vec<u8>,
    /// Where the data begins.
    data_start: u64,
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    shard: usize,
    offset: u64,
    bytes: u64,
    shape: Vec<usize>,
    stored: Option<Stored>,
    dtype_name: String,
    /// The size of a head, when the rows of each head are interleaved; see [`GgufLayout`].
    interleaved_head: Option<usize>,
    /// What the bytes are, where they are a matrix as it lies in memory; then `stored` is `None`.
    packed: Option<PackedNote>,
}

/// model.safetensors.index.json
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

// === impl Checkpoint ===

impl Checkpoint {
    /// Open the weights of a Hugging Face folder: packed.safetensors, model.safetensors, or the shards its index names. Where there
    /// is a config.json, its `quantization_config` says how they are quantised.
    ///
    /// # Errors
    /// When there are none, one is missing, truncated or has a header that makes no sense, or they are quantised in a way that
    /// is not supported.
    pub fn open(folder: &Path) -> Result<Self, LayerError> {
        let config = folder.join(CONFIG);
        let method = match std::fs::read(&config) {
            Ok(config) => Method::parse(&config)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Method::Plain,
            Err(source) => return Err(LayerError::Io { file: config.display().to_string(), source }),
        };
        Ok(Self { method, ..Self::open_files(folder)? })
    }

    fn open_files(folder: &Path) -> Result<Self, LayerError> {
        let place = folder.display().to_string();
        let packed = folder.join(PACKED);
        if packed.is_file() {
            let shards = vec![Shard::open(&packed)?];
            return Self::from_shards(place, shards).map_err(LayerError::of_packed)?.packed();
        }
        let single = folder.join(SINGLE);
        if single.is_file() {
            return Self::from_shards(place, vec![Shard::open(&single)?]);
        }
        let index_path = folder.join(INDEX);
        if !index_path.is_file() {
            return Err(LayerError::NoWeights { place });
        }
        let index_name = index_path.display().to_string();
        let text = std::fs::read(&index_path)
            .map_err(|source| LayerError::Io { file: index_name.clone(), source })?;
        Self::from_index(place, &index_name, &text, |file| {
            let path = folder.join(file);
            path.is_file().then(|| Shard::open(&path)).transpose()
        })
    }

    /// Open weights that are part of the binary: file names and contents, as in a folder.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn embedded(files: &[(&'static str, &'static [u8])]) -> Result<Self, LayerError> {
        let place = "the embedded model".to_owned();
        let find = |wanted: &str| files.iter().find(|(name, _)| *name == wanted);
        if let Some((name, bytes)) = find(SINGLE) {
            return Self::from_shards(place, vec![Shard::embedded(name, bytes)]);
        }
        let Some((index_name, text)) = find(INDEX) else { return Err(LayerError::NoWeights { place }) };
        Self::from_index(place, index_name, text, |file| {
            Ok(find(file).map(|(name, bytes)| Shard::embedded(name, bytes)))
        })
    }

    fn from_index(
        place: String,
        index_name: &str,
        text: &[u8],
        open: impl Fn(&str) -> Result<Option<Shard>, LayerError>,
    ) -> Result<Self, LayerError> {
        let bad = |reason: String| LayerError::BadIndex { file: index_name.to_owned(), reason };
        let index: Index = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
        let mut files: Vec<&String> = index.weight_map.values().collect();
        files.sort_unstable();
        files.dedup();
        let mut shards = Vec::with_capacity(files.len());
        for file in &files {
            if file.contains(['/', '\\']) || !file.ends_with(".safetensors") {
                return Err(bad(format!(
                    "{file:?} is not the name of a safetensors file in the same folder"
                )));
            }
            let shard = open(file)?.ok_or_else(|| LayerError::MissingShard {
                file: (*file).clone(),
                index: index_name.to_owned(),
            })?;
            shards.push(shard);
        }
        let checkpoint = Self::from_shards(place, shards)?;
        for (tensor, file) in &index.weight_map {
            let held = checkpoint.tensors.get(tensor).map(|info| files[info.shard]);
            if held != Some(file) {
                return Err(LayerError::NotInShard {
                    tensor: tensor.clone(),
                    file: file.clone(),
                    index: index_name.to_owned(),
                });
            }
        }
        Ok(checkpoint)
    }

    fn from_shards(place: String, shards: Vec<Shard>) -> Result<Self, LayerError> {
        let mut tensors = HashMap::new();
        let mut headers = Vec::with_capacity(shards.len());
        for (i, shard) in shards.iter().enumerate() {
            if shard.len < header::LENGTH_BYTES {
                return Err(LayerError::Truncated {
                    file: shard.name.clone(),
                    expected: header::LENGTH_BYTES,
                    found: shard.len,
                });
            }
            let mut buffer = Vec::new();
            let mut first = [0; header::LENGTH_BYTES as usize];
            first.copy_from_slice(&shard.read(0, header::LENGTH_BYTES as usize, &mut buffer)?);
            let length = header::json_length(&shard.name, shard.len, first)?;
            let json = shard.read(header::LENGTH_BYTES, length as usize, &mut buffer)?.into_owned();
            tensors.extend(header::parse(&shard.name, i, shard.len, &json)?);
            headers.push(Header { data_start: header::LENGTH_BYTES + length, bytes: json });
        }
        let shards = shards.into_iter().map(Arc::new).collect();
        Ok(Self { place, shards, tensors, headers, container: Container::Safetensors, method: Method::Plain })
    }

    /// Names and places of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// How a tensor is encoded, when there is such a tensor of a type that can be loaded.
    #[must_use]
    pub fn stored(&self, tensor: &str) -> Option<Stored> {
        self.tensors.get(tensor)?.stored
    }

    /// Bytes of all files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.len).sum()
    }

    /// What identifies these weights without reading them all: each header, and up to `samples` pieces of
    /// `sample_bytes` spread evenly over the data of each file.
    ///
    /// # Errors
    /// When reading fails.
    pub fn sample(
        &self,
        samples: u64,
        sample_bytes: u64,
        mut visit: impl FnMut(&[u8]),
    ) -> Result<(), LayerError> {
        let mut buffer = Vec::new();
        for (shard, header) in self.shards.iter().zip(&self.headers) {
            visit(&header.bytes);
            let data = shard.len - header.data_start;
            for i in 0..samples {
                let offset = header.data_start + data / samples * i;
                let len = sample_bytes.min(shard.len - offset);
                visit(&shard.read(offset, len as usize, &mut buffer)?);
            }
        }
        Ok(())
    }

    /// What keeps `plan` from being loaded: missing tensors, wrong shapes, wrong types, and for a packed file another
    /// `precision` than it was packed with. Of a matrix of many parts, such as experts, the first few.
    #[must_use]
    pub fn problems(&self, plan: &LoadPlan, precision: Precision) -> Vec<LayerError> {
        if self.container == Container::Packed && !plan.matrices().iter().all(MatrixSpec::is_whole) {
            return vec![LayerError::PackedWhole { place: self.place.clone() }];
        }
        let matrices = plan.matrices().iter().flat_map(|spec| self.matrix_problems(spec, precision));
        let vectors = plan
            .vectors()
            .iter()
            .flat_map(|v| v.parts.iter().map(|part| self.check(&part.tensor, &[part.rows.size()]).err()));
        matrices.chain(vectors.flatten()).chain(self.unexpected(plan)).collect()
    }

    fn matrix_problems(&self, spec: &MatrixSpec, precision: Precision) -> Vec<LayerError> {
        if self.container == Container::Packed {
            return self.check_packed(spec, precision).err().into_iter().collect();
        }
        let parts = spec.parts.iter();
        parts
            .filter_map(|part| self.check(&part.tensor, &[part.rows.size(), spec.cols.size()]).err())
            .take(TOLD)
            .collect()
    }

    /// Tensors that say that the model is another one than `plan` is for. GGUF and packed files hold what the model needs and
    /// no more; in folders of safetensors there are often leftovers, such as constants of the rotary embedding.
    fn unexpected(&self, plan: &LoadPlan) -> Option<LayerError> {
        if self.container == Container::Safetensors {
            return None;
        }
        let wanted: HashSet<&str> = plan.tensors().collect();
        let tensor = self.tensors.keys().filter(|name| !wanted.contains(name.as_str())).min()?;
        Some(LayerError::UnexpectedTensor { tensor: tensor.clone(), place: self.place.clone() })
    }

    /// Where a tensor lies, once it is known to be as the model needs it.
    fn check(&self, tensor: &str, expected: &[usize]) -> Result<(&TensorInfo, Stored), LayerError> {
        let info = self.tensors.get(tensor).ok_or_else(|| LayerError::MissingTensor {
            tensor: tensor.to_owned(),
            place: self.place.clone(),
            config: self.container.config(),
        })?;
        let file = || self.shards[info.shard].name.clone();
        if info.shape != expected {
            return Err(LayerError::WrongShape {
                tensor: tensor.to_owned(),
                file: file(),
                config: self.container.config(),
                expected: expected.to_vec(),
                found: info.shape.clone(),
            });
        }
        let stored = info.stored.ok_or_else(|| LayerError::WrongDtype {
            tensor: tensor.to_owned(),
            file: file(),
            found: info.dtype_name.clone(),
            supported: self.container.types(),
        })?;
        self.scales(tensor, info)?;
        Ok((info, stored))
    }
}

// === impl Container ===

impl Container {
    /// What says which tensors there are and which shapes they have, for errors.
    fn config(self) -> &'static str {
        match self {
            Self::Safetensors | Self::Packed => "config.json",
            Self::Gguf => "its metadata",
        }
    }

    /// The encodings that can be loaded, for errors.
    fn types(self) -> &'static str {
        match self {
            Self::Safetensors | Self::Packed => "F32, F16 and BF16",
            Self::Gguf => {
                "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K (as in files called Q8_0 or Q4_K_M)"
            }
        }
    }
}

// === impl TensorInfo ===

impl TensorInfo {
    /// Its dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The format in which it lies in memory, where the file has it like that.
    #[must_use]
    pub fn packed(&self) -> Option<Format> {
        self.packed.as_ref().map(|note| note.format)
    }

    /// Its encoding, when it is one that can be loaded.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        self.stored
    }

    /// Its type, as the file names it.
    #[must_use]
    pub fn dtype_name(&self) -> &str {
        &self.dtype_name
    }

    /// Bytes it takes in its file.
    #[must_use]
    pub fn num_bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests;

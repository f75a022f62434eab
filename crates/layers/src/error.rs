//! What can be wrong with a checkpoint or a config, and the errors of the layers.

use std::io;

use vlinders_comm::CommError;
use vlinders_device::DeviceError;
use vlinders_kernels::{Format, KernelError};

/// An error of this crate. Those about files name the file, and the tensor where there is one.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The operating system refused.
    #[error("can not read {file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What it said.
        source: io::Error,
    },
    /// The operating system refused to take what was written.
    #[error("can not write {file}: {source}")]
    Write {
        /// The file.
        file: String,
        /// What it said.
        source: io::Error,
    },
    /// A matrix that can not be stored in blocks.
    #[error(
        "{tensor} has rows of {cols} numbers, which are no whole blocks of {block}: this model can not be stored \
         quantised, only quantised while loading"
    )]
    NoWholeBlocks {
        /// The tensor.
        tensor: String,
        /// Numbers of a row.
        cols: usize,
        /// Numbers of a block.
        block: usize,
    },
    /// A folder without weights.
    #[error(
        "{place} holds no weights: expected model.safetensors, or model.safetensors.index.json and its shards"
    )]
    NoWeights {
        /// The folder.
        place: String,
    },
    /// The index of a sharded checkpoint can not be used.
    #[error("{file}: {reason}")]
    BadIndex {
        /// The index.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The index names a file that is not there.
    #[error(
        "{index} names the shard {file}, which does not exist; download it, or the whole checkpoint again"
    )]
    MissingShard {
        /// The file that is missing.
        file: String,
        /// The index.
        index: String,
    },
    /// The index says that a tensor is in a shard that does not hold it.
    #[error("{index} says that {tensor} is in {file}, which does not hold it")]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard.
        file: String,
        /// The index.
        index: String,
    },
    /// The start of a safetensors file does not make sense.
    #[error("{file} is not a valid safetensors file: {reason}")]
    BadHeader {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A packed file that this program can not use as it is.
    #[error("{file} can not be used: {reason}; run `vlinders pack` again on the folder it was packed from")]
    BadPacked {
        /// The file.
        file: String,
        /// What is wrong with it, with the tensor.
        reason: String,
    },
    /// A packed matrix in another format than was asked for.
    #[error(
        "{tensor} is packed as {packed}, and {asked} was asked for: leave out `dtype` and `quantization`, or run \
         `vlinders pack` with them on the folder it was packed from"
    )]
    PackedOtherwise {
        /// The matrix.
        tensor: String,
        /// Its format.
        packed: Format,
        /// The format that `dtype` and `quantization` say.
        asked: Format,
    },
    /// A number of ranks that would cut heads of attention.
    #[error(
        "tensor_parallel_size {ranks} does not go with {q} heads of queries and {kv} of keys and values: possible are {}",
        listed(valid)
    )]
    CanNotSplit {
        /// What was asked for.
        ranks: usize,
        /// Heads of queries.
        q: usize,
        /// Heads of keys and values.
        kv: usize,
        /// Numbers of ranks that do.
        valid: Vec<usize>,
    },
    /// A packed matrix, of which a rank needs a part.
    #[error("{place} is packed for one rank: with tensor_parallel_size, give the folder it was packed from")]
    PackedWhole {
        /// The checkpoint.
        place: String,
    },
    /// A packed folder where the weights of a model are needed.
    #[error("{place} is packed already: give the folder it was packed from")]
    AlreadyPacked {
        /// The folder.
        place: String,
    },
    /// The file is shorter than its header says.
    #[error(
        "{file} is truncated: it has {found} bytes and its header describes {expected}; download it again"
    )]
    Truncated {
        /// The file.
        file: String,
        /// Bytes there should be.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The model needs a tensor that no file holds.
    #[error("{place} lacks the tensor {tensor}; does {config} belong to these weights?")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The checkpoint.
        place: String,
        /// What asks for it.
        config: &'static str,
    },
    /// The model has a tensor that its architecture does not use, so it would answer wrongly.
    #[error(
        "{place} has the tensor {tensor}, which this architecture does not use: the model is a variant that is not supported"
    )]
    UnexpectedTensor {
        /// The tensor.
        tensor: String,
        /// The checkpoint.
        place: String,
    },
    /// A tensor has another shape than config.json implies.
    #[error("{tensor} in {file} has shape {found:?}, {config} implies {expected:?}")]
    WrongShape {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
        /// What says so.
        config: &'static str,
        /// The shape the model needs.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is stored in a type that is not computed with.
    #[error("{tensor} in {file} is stored as {found}; {supported} are supported")]
    WrongDtype {
        /// The tensor.
        tensor: String,
        /// The file.
        file: String,
        /// Its type, as the file names it.
        found: String,
        /// The types that can be loaded.
        supported: &'static str,
    },
    /// A matrix of codes that nothing says the size of.
    #[error(
        "{tensor} in {file} is stored as F8_E4M3 and lacks its scales: {tensor}_scale_inv or {tensor}_scale"
    )]
    MissingScales {
        /// The matrix.
        tensor: String,
        /// Its file.
        file: String,
    },
    /// Scales that can not be those of their matrix.
    #[error("the scales {tensor} in {file} {reason}")]
    BadScales {
        /// The scales.
        tensor: String,
        /// Their file.
        file: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A matrix of eight-bit floats that holds a code that is no number.
    #[error("{tensor} in {file} holds a NaN (code 0x7f or 0xff): the file is damaged; download it again")]
    NotANumber {
        /// The matrix.
        tensor: String,
        /// Its file.
        file: String,
    },
    /// A GGUF file that makes no sense.
    #[error("{file} is not a GGUF file that can be loaded: {reason}")]
    BadGguf {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// config.json can not be used.
    #[error("config.json: {field}: {reason}")]
    Config {
        /// The field, with its path.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer was built for other weights than were loaded: a fault of the model's code.
    #[error("the tensor {0} was not part of the load plan")]
    NotPlanned(String),
    /// Random weights, asked for on the CPU.
    #[error("random weights are made on GPUs, not on the CPU")]
    RandomOnCpu,
    /// Tiles for the CPU, asked for on a GPU.
    #[error(
        "a packed folder holds weights in the order in which the CPU reads them: give a GPU the folder that it was packed from"
    )]
    PackedForCpu,
    /// A kernel refused its arguments or failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A device failed, or has no room.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor operation failed.
    #[error("{0}")]
    Tensor(#[from] candle_core::Error),
    /// Another rank failed.
    #[error(transparent)]
    Comm(#[from] CommError),
}

impl LayerError {
    /// The same about a packed file: nobody can download one again.
    pub(crate) fn of_packed(self) -> Self {
        match self {
            Self::Truncated { file, expected, found } => Self::BadPacked {
                file,
                reason: format!("it is truncated: it has {found} bytes and its header describes {expected}"),
            },
            other => other,
        }
    }

    /// An error about a field of config.json.
    pub fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { field: field.into(), reason: reason.into() }
    }
}

/// `1, 2, 4`
fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

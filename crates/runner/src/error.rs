//! What can go wrong between files and a running model.

use std::io;

use vlinders_comm::CommError;
use vlinders_device::DeviceError;
use vlinders_kernels::KvDtype;
use vlinders_layers::LayerError;
use vlinders_models::ModelError;

/// A model that can not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// The path is not a folder.
    #[error("{0} is not a folder; give the path of a Hugging Face model folder")]
    NotAFolder(String),
    /// A file that every model has is missing.
    #[error("{place} has no {file}")]
    MissingFile {
        /// The folder.
        place: String,
        /// The file.
        file: &'static str,
    },
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
    /// A folder that is to be written holds something already.
    #[error("{0} is not empty; give a folder that does not exist yet")]
    NotEmpty(String),
    /// The architecture is unknown, or config or weights can not be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Another rank has failed or is gone.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// Ranks that can not compute one model together.
    #[error(
        "rank {rank} has another model than rank 0: weights, config.json, settings or the version of this program differ"
    )]
    OtherModel {
        /// The first rank that differs.
        rank: usize,
    },
    /// The device that was asked for can not be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Keys and values of a type that kernels on GPUs do not read beside these activations.
    #[error(
        "kv_cache_dtype {kv} does not go with activations of {activations} on a GPU: use {activations}, int8 or auto"
    )]
    KvDtypeOnGpu {
        /// What was asked for.
        kv: KvDtype,
        /// The type of activations.
        activations: KvDtype,
    },
    /// The system gives no thread for a rank.
    #[error("can not start a thread for a rank: {0}")]
    Thread(io::Error),
    /// An option that makes no sense.
    #[error("{option}: {reason}")]
    Option {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no memory for the weights.
    #[error(
        "the weights need {needed} bytes, {available} are available; no setting but a smaller dtype makes them fit"
    )]
    WeightsTooLarge {
        /// Bytes of weights in memory.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The cache can not hold one sequence of the length asked for.
    #[error(
        "max_model_len {max_model_len} needs {needed} bytes of KV cache, {available} are available; \
         the largest max_model_len that fits is {largest}"
    )]
    CacheTooSmall {
        /// The length asked for.
        max_model_len: usize,
        /// Bytes that one such sequence takes.
        needed: u64,
        /// Bytes that the cache may take.
        available: u64,
        /// The longest sequence that fits.
        largest: usize,
    },
}

impl From<LayerError> for RunnerError {
    fn from(error: LayerError) -> Self {
        Self::Model(error.into())
    }
}

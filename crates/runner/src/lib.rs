//! Loads a model and executes step plans: what stands between `engine` and `models`.
//!
//! [`load()`] turns the files of a model into a [`LocalExecutor`], [`inspect()`] says from headers alone whether that
//! would work.

mod error;
mod files;
mod fingerprint;
mod inspect;
mod load;
mod local;
mod memory;
mod options;
mod pack;
mod progress;
mod quantize;
mod rewrite;
mod sample;
mod sequence;
mod sizing;

pub use self::{
    error::RunnerError,
    files::{GgufFiles, ModelFiles},
    inspect::{Inspection, inspect},
    load::{LoadedModel, ModelInfo, load},
    local::LocalExecutor,
    memory::available_memory,
    options::LoadOptions,
    pack::pack,
    progress::{LoadPhase, LoadProgress, LoadReport, NoProgress},
    quantize::quantize,
    sample::{History, Sampler},
    sizing::MemoryFit,
};
pub use candle_core::DType;
pub use vlinders_kernels::{
    Binding, ComputeOptions, ComputeReport, KvDtype, Pinning, Placement, configure_compute,
    default_num_threads, set_num_threads, usable_cpus,
};
pub use vlinders_layers::{Activations, Metadata, PackStats, Quantization, QuantizeStats};

//! Loads a model and executes step plans: what stands between `engine` and `models`.
//!
//! [`load()`] turns the files of a model into a [`Leader`], which executes plans with all ranks of the model; [`inspect()`] says from headers alone whether that
//! would work.

mod agree;
mod device;
mod error;
mod files;
mod fingerprint;
mod gpu;
mod inspect;
mod layout;
mod load;
mod local;
mod member;
mod memory;
mod options;
mod pack;
mod parallel;
mod progress;
mod quantize;
mod ranks;
mod rewrite;
mod sample;
mod sequence;
mod sizing;

pub use self::{
    device::DeviceChoice,
    error::RunnerError,
    files::{GgufFiles, ModelFiles},
    inspect::{Inspection, inspect},
    load::{LoadedModel, ModelInfo, load},
    member::{Member, load_member},
    memory::available_memory,
    options::LoadOptions,
    pack::pack,
    parallel::{Follower, Leader},
    progress::{LoadPhase, LoadProgress, LoadReport, NoProgress},
    quantize::quantize,
    sample::{History, Sampler},
    sizing::MemoryFit,
};
pub use candle_core::DType;
pub use vlinders_comm::{GroupEnd, GroupOptions, GroupSecret, JoinError, Tcp, Watcher};
pub use vlinders_kernels::{
    Binding, ComputeOptions, ComputeReport, KvDtype, Pinning, Placement, configure_compute,
    default_num_threads, set_num_threads, usable_cpus,
};
pub use vlinders_layers::{Activations, Metadata, PackStats, Quantization, QuantizeStats};

//! Where the numbers of a model are: on the CPU, in candle's tensors, or on a GPU.
//!
//! [`Gpu`] is one device with one stream: what is asked of it happens in the order of asking, later. Memory that was freed is
//! therefore free for the next user at once, and nothing waits but [`Gpu::read`] and [`Event::wait`]. Behind it
//! stands a CUDA driver (feature `cuda`), or [`emulated`](EmulatedKernels) kernels on the host, which is how the code of
//! this project that runs on GPUs is tested without one.

#![allow(unsafe_code, reason = "addresses of device memory, and calls of a C library")]

#[cfg(feature = "cuda")]
mod cuda;
mod driver;
mod emulated;
mod error;
mod gpu;
mod graph;
mod host;
mod launch;
mod links;
mod memory;
mod product;
mod tensor;
mod workspace;

pub use self::{
    driver::{Memory, Properties},
    emulated::{EmulatedKernels, EmulationOptions},
    error::DeviceError,
    gpu::{Code, Gpu},
    graph::Graph,
    host::{Event, HostBuffer, HostFlag, Staging},
    launch::{Grid, Params},
    links::{GpuLinks, Sent},
    memory::DeviceBuffer,
    product::WeightRows,
    tensor::{GpuTensor, Tensor},
};

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, DeviceError>;

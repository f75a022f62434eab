//! What can go wrong with a device, said so that a user knows what to do.

/// Why a device did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// This program was built without CUDA.
    #[error("this build of vlinders has no GPU support: build it with `--features cuda`, or set device: cpu")]
    NotBuilt,
    /// This program was built without kernels for the host.
    #[error("this build of vlinders has no emulated device: build it with `--features emulation`")]
    NoEmulation,
    /// There is no driver on this machine.
    #[error(
        "no NVIDIA driver was found (libcuda.so.1 can not be loaded): run on a GPU node, with the driver mounted into the container, or set device: cpu"
    )]
    NoDriver,
    /// The driver has no such device.
    #[error("there is no GPU {index}: the driver shows {count}")]
    NoSuchDevice {
        /// The device asked for.
        index: usize,
        /// Devices there are.
        count: usize,
    },
    /// A GPU that our kernels have no code for.
    #[error("{name} has compute capability {major}.{minor}; at least 8.0 (Ampere) is needed")]
    TooOld {
        /// Its name.
        name: String,
        /// Compute capability.
        major: u32,
        /// Compute capability.
        minor: u32,
    },
    /// The device has not so much memory.
    #[error("the GPU has no memory for {bytes} bytes ({free} of {total} are free)")]
    OutOfMemory {
        /// The size that was asked for.
        bytes: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes of the device.
        total: u64,
    },
    /// The room for intermediate results is too small for what was asked for.
    #[error("intermediate results need {bytes} bytes more than the {size} that were set aside for them")]
    WorkspaceFull {
        /// The size that was asked for.
        bytes: usize,
        /// Bytes set aside.
        size: usize,
    },
    /// A kernel that the code of this program does not have.
    #[error("this build has no kernel {0:?}")]
    NoKernel(String),
    /// A kernel was given the wrong parameters, or stopped.
    #[error("kernel {kernel}: {problem}")]
    Kernel {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        problem: String,
    },
    /// The driver refused a call.
    #[error("CUDA: {call} failed: {problem}")]
    Driver {
        /// The call.
        call: &'static str,
        /// What the driver says.
        problem: String,
    },
    /// Ranks can not exchange what they compute.
    #[error("the links between GPUs: {0}")]
    Links(String),
    /// A tensor is on another device than it must be.
    #[error("{op}: {what} is on the {found}, it must be on the {wanted}")]
    OtherDevice {
        /// The operation.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// Where it is.
        found: &'static str,
        /// Where it must be.
        wanted: &'static str,
    },
    /// A shape or dtype that does not fit.
    #[error("{0}")]
    Tensor(String),
}

// === impl DeviceError ===

impl From<candle_core::Error> for DeviceError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error.to_string())
    }
}

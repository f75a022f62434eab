//! What can go wrong in a kernel, said so that a caller knows which argument to change.

use candle_core::DType;
use vlinders_device::DeviceError;

/// Why an operation was refused or did not finish.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Shapes of the arguments do not fit each other.
    #[error("{op}: {problem}")]
    Shape {
        /// The operation that was called.
        op: &'static str,
        /// Which shape was found, and which one was needed.
        problem: String,
    },
    /// An argument has an element type that the operation can not read.
    #[error("{op}: {what} has dtype {found:?}, give it one of {wanted:?}")]
    Dtype {
        /// The operation that was called.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// Its element type.
        found: DType,
        /// The element types that work.
        wanted: &'static [DType],
    },
    /// An id (token, slot, block, position, sequence) lies outside of what it points into.
    #[error("{op}: {what} {index} does not exist, there are {limit}")]
    OutOfRange {
        /// The operation that was called.
        op: &'static str,
        /// What the id names.
        what: &'static str,
        /// The id.
        index: usize,
        /// How many there are; ids must be smaller.
        limit: usize,
    },
    /// The system gave no memory.
    #[error("no memory for {bytes} bytes: use a smaller model, a smaller cache or a narrower dtype")]
    Memory {
        /// The size that was asked for.
        bytes: usize,
    },
    /// A worker thread panicked in the middle of an operation; its output is gone, the pool goes on.
    #[error("a kernel panicked: {0}")]
    Panicked(String),
    /// The device of the arguments failed, or they are on different ones.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The tensor library refused a step.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// Result of every operation in this crate.
pub type Result<T> = std::result::Result<T, KernelError>;

// === impl KernelError ===

impl KernelError {
    pub(crate) fn shape(op: &'static str, problem: impl Into<String>) -> Self {
        Self::Shape { op, problem: problem.into() }
    }
}

impl From<KernelError> for candle_core::Error {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Candle(inner) => inner,
            other => Self::wrap(other),
        }
    }
}

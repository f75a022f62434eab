//! Which device a rank computes on.

use vlinders_device::{DeviceError, Gpu};
use vlinders_kernels::gpu as kernels;

use crate::{RunnerError, available_memory};

/// The device that was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// A GPU where there is a driver that shows one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU: this one, or the first; ranks of one process have those that follow.
    Cuda(usize),
    /// Kernels of GPUs on the host: right and very slow, for tests.
    Emulated,
}

// === impl DeviceChoice ===

impl DeviceChoice {
    /// The GPU of the rank that is number `index` on this machine; `None` is the CPU.
    ///
    /// # Errors
    /// When the device that was asked for can not be had.
    pub(crate) fn open(self, index: usize) -> Result<Option<Gpu>, RunnerError> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda(first) => Ok(Some(Gpu::open(first + index, kernels::code())?)),
            Self::Emulated => Ok(Some(kernels::emulated_device()?)),
            Self::Auto => match Gpu::open(index, kernels::code()) {
                Ok(gpu) => Ok(Some(gpu)),
                Err(DeviceError::NotBuilt) => Ok(None),
                Err(error @ (DeviceError::NoDriver | DeviceError::NoSuchDevice { count: 0, .. })) => {
                    if index == 0 {
                        tracing::warn!("computing on the CPU: {error}");
                    }
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    /// The name of the device, unless it is the CPU, and the memory that the ranks of a model may still take together, where
    /// that can be told.
    ///
    /// # Errors
    /// When the device that was asked for can not be had.
    pub fn memory(self, ranks: usize) -> Result<(Option<String>, Option<u64>), RunnerError> {
        let mut free = 0;
        let mut name = None;
        for index in 0..ranks.max(1) {
            let Some(gpu) = self.open(index)? else { return Ok((None, available_memory())) };
            free += gpu.memory()?.free;
            name = Some(gpu.properties().name.clone());
        }
        Ok((name, Some(free)))
    }

    /// Whether it is a GPU, as far as that can be told without asking for one.
    #[must_use]
    pub fn is_gpu(self) -> bool {
        match self {
            Self::Cpu => false,
            Self::Cuda(_) | Self::Emulated => true,
            Self::Auto => Gpu::count().is_ok_and(|count| count > 0),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

/// As configuration files and the command line spell it.
impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "emulated" => Ok(Self::Emulated),
            _ => {
                let index = text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
                index.map(Self::Cuda).ok_or_else(|| format!("`{text}` is no device"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for device in ["auto", "cpu", "cuda:0", "cuda:7", "emulated"] {
            assert_eq!(device.parse::<DeviceChoice>().unwrap().to_string(), device);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cpu_is_no_gpu() {
        assert!(DeviceChoice::Cpu.open(0).unwrap().is_none());
        assert!(!DeviceChoice::Cpu.is_gpu());
    }
}

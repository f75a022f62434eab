//! Work that was taken down once and is launched many times, at the cost of one launch.

use crate::{DeviceError, Gpu, Result};

/// Work of a device. What it reads and writes must stay where it was when it was captured.
pub struct Graph {
    gpu: Gpu,
    graph: u64,
}

// === impl Graph ===

impl Graph {
    pub(crate) fn capture<E: From<DeviceError>>(
        gpu: &Gpu,
        work: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        gpu.driver().begin_capture()?;
        let outcome = work();
        let graph = gpu.driver().end_capture();
        outcome?;
        Ok(Self { gpu: gpu.clone(), graph: graph? })
    }

    /// Do the work once more.
    ///
    /// # Errors
    /// When the driver fails.
    pub fn launch(&self) -> Result<()> {
        self.gpu.driver().launch_graph(self.graph)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.gpu.driver().free_graph(self.graph);
    }
}

//! Through what rows pass on their way from files into matrices.

use vlinders_device::{DeviceBuffer, Gpu, Staging};

use super::GpuMatrix;
use crate::error::Result;

/// Locked memory of the host and memory of a device through which rows pass, one run at a time. Each thread that loads has its
/// own, for all matrices; it takes nothing at first and grows to the longest run.
#[derive(Default)]
pub struct RowStaging {
    room: Option<Room>,
}

struct Room {
    host: Staging,
    /// Codes on their way to their places. The stream orders its uses.
    device: DeviceBuffer,
}

// === impl RowStaging ===

impl RowStaging {
    /// Memory for a run, with anything in it. Waits until the device has taken what last left from there.
    pub(super) fn bytes_mut(&mut self, gpu: &Gpu, bytes: usize) -> Result<&mut [u8]> {
        let room = match self.room.take() {
            Some(room) if room.device.gpu().is(gpu) && room.device.num_bytes() >= bytes => room,
            other => {
                drop(other);
                Room { host: Staging::new(gpu, bytes)?, device: gpu.allocate(bytes)? }
            }
        };
        Ok(&mut self.room.insert(room).host.bytes_mut()?[..bytes])
    }

    /// Send rows of a matrix, which lie in that memory: all of their codes, then all of their scales.
    pub(super) fn send(&mut self, matrix: &GpuMatrix, first_row: usize, count: usize) -> Result<()> {
        let Some(Room { host, device }) = self.room.as_mut().filter(|_| count > 0) else { return Ok(()) };
        let (row_bytes, scale_bytes) = matrix.row_bytes();
        let code_bytes = count * row_bytes;
        let kernel = matrix.placed_by();
        let (codes, offset) = match kernel {
            None => (&matrix.codes, first_row * row_bytes),
            Some(_) => (&*device, 0),
        };
        let mut copies = vec![(codes, offset, 0..code_bytes)];
        if let Some(to) = &matrix.scales {
            copies.push((to, first_row * scale_bytes, code_bytes..code_bytes + count * scale_bytes));
        }
        host.leave(matrix.gpu(), &copies)?;
        kernel.map_or(Ok(()), |kernel| matrix.place(kernel, device, first_row, count))
    }
}
